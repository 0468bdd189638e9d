import json
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.servers import prometheus
from deploy.local.servers.prometheus import Prometheus, Target, Watch
from deploy.local.stack import doctor
from onceloop.errors import ConfigError


def test_target_is_known_by_its_process_not_by_its_port() -> None:
    (listed,) = json.loads(prometheus.targets_text([Target("inventory", "inventory-0", 8091)]))
    assert listed["targets"] == ["127.0.0.1:8091"]
    assert listed["labels"] == {"job": "inventory", "instance": "inventory-0", "__metrics_path__": "/metrics"}


def test_prometheus_watches_itself_and_keeps_everything_in_the_stacks_folder(tmp_path: Path) -> None:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    program = Prometheus(home, 9090, (Target("kafka", "kafka", 9404),))
    assert list(program.prepare()) == []
    listed = json.loads((home.data("prometheus") / "targets.json").read_text())
    assert [each["labels"]["instance"] for each in listed] == ["prometheus", "kafka"]
    settings = json.loads(program.settings.read_text())
    assert settings["scrape_configs"][0]["file_sd_configs"] == [{"files": [str(home.data("prometheus/targets.json"))]}]
    assert [Path(rules).is_file() for rules in settings["rule_files"]] == [True]


def test_folder_is_named_as_it_is_where_prometheus_looks_for_patterns() -> None:
    folder = Path("/srv/ada/stack [new]?")
    settings = json.loads(prometheus.settings_text(folder / "alerts.yml", folder / "targets.json"))
    assert settings["rule_files"] == [r"/srv/ada/stack \[new\]\?/alerts.yml"]


def test_folder_with_an_emoji_is_written_as_it_is() -> None:
    """Red before: JSON escapes it in two halves, which YAML does not read, and Prometheus found no rules."""
    text = prometheus.settings_text(Path("/srv/🍵/alerts.yml"), Path("/srv/🍵/targets.json"))
    assert text.count("/srv/🍵/") == 2
    assert "\\u" not in text


def test_prometheus_listens_on_loopback_alone_and_deletes_no_data_by_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "program", lambda: "prometheus")
    arguments = Prometheus(homes.at(tmp_path), 9091, ()).launch().argv
    assert "--web.listen-address=127.0.0.1:9091" in arguments
    assert not [each for each in arguments if "enable" in each]


def test_machine_without_prometheus_is_answered_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as refused:
        prometheus.program()
    assert "apt-get install" in refused.value.cure
    assert "brew install prometheus" in refused.value.cure


def test_doctor_takes_its_absence_for_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = doctor._prometheus()
    assert check.ok
    assert check.cure == prometheus.CURE


def test_watch_names_the_targets_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    active = [
        {"labels": {"instance": "inventory-1"}, "health": "down"},
        {"labels": {"instance": "kafka"}, "health": "up"},
    ]
    monkeypatch.setattr(
        prometheus, "get", lambda _port, _path: json.dumps({"status": "success", "data": {"activeTargets": active}})
    )
    assert prometheus.watch(9090) == Watch(2, ("inventory-1",))
    assert Watch(2, ("inventory-1",)).up == 1


@pytest.mark.parametrize("answer", [None, "", "<html>", "{}", '{"data": null}'])
def test_watch_of_a_silent_prometheus_is_nothing(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    monkeypatch.setattr(prometheus, "get", lambda _port, _path: answer)
    assert prometheus.watch(9090) is None
