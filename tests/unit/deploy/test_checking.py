"""Where `verify` and `order` read: the stack at hand first, else what the environment names."""

import json
from pathlib import Path

import pytest

from deploy.cli.checking import checker_settings, story_settings
from deploy.local import home as homes
from onceloop.errors import ConfigError

PORTS = {"api": 8181, "kafka": 9192, "controller": 9193, "postgres": 5532, "registry": 8182}
ELSEWHERE = {
    "PIPELINE_NAMESPACE": "elsewhere",
    "PIPELINE_KAFKA_BOOTSTRAP": "kafka.example:9092",
    "PIPELINE_REGISTRY_URL": "http://registry.example/apis/ccompat/v7",
    "PIPELINE_POSTGRES_URL": "postgresql://checker@postgres.example:5432/pipeline",
    "PIPELINE_API_URL": "http://api.example",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)


def test_the_stack_at_hand_comes_before_what_a_shell_remembers(tmp_path: Path) -> None:
    home = homes.at(tmp_path)
    homes.create(home)
    home.ports.write_text(json.dumps({**PORTS, "registry_management": 8183}), encoding="utf-8")

    settings = story_settings(tmp_path)

    assert (settings.namespace, settings.kafka_bootstrap) == ("", "127.0.0.1:9192")
    assert settings.postgres_url == "postgresql://checker@127.0.0.1:5532/pipeline"
    assert settings.postgres_password.get_secret_value() == homes.read_secret(home.role_secrets / "checker")
    assert settings.api_url == "http://127.0.0.1:8181"


def test_without_a_stack_the_environment_says_where(tmp_path: Path) -> None:
    settings = checker_settings(tmp_path)

    assert (settings.namespace, settings.kafka_bootstrap) == ("elsewhere", "kafka.example:9092")


def test_without_either_both_ways_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_REGISTRY_URL")

    with pytest.raises(ConfigError) as refused:
        checker_settings(tmp_path)

    assert f"no stack in {tmp_path}" in refused.value.message
    assert "PIPELINE_REGISTRY_URL: is not set" in refused.value.message
    assert "pipeline up" in refused.value.cure
