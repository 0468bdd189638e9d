"""The alert rules: accepted, tested both ways, explained, and about metrics that exist."""

import re
import subprocess
from pathlib import Path

import pytest

from deploy.local.servers import prometheus
from tests.monitoring import ALERT_TESTS, ALERTS, alert_names, known_metrics, metrics_in, needs

ROOT = Path(__file__).parents[3]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")


def promtool(*arguments: str) -> str:
    ran = subprocess.run([needs("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_prometheus_accepts_settings_and_rules(tmp_path: Path) -> None:
    (tmp_path / "targets.json").write_text(prometheus.targets_text([prometheus.Target("kafka", "kafka", 9404)]))
    settings = tmp_path / "prometheus.yml"
    settings.write_text(prometheus.settings_text(ALERTS, tmp_path / "targets.json"))
    said = promtool("check", "config", str(settings))
    assert f"{len(alert_names())} rules found" in said


def test_each_alert_fires_on_its_fault_and_is_silent_otherwise() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(ALERT_TESTS))


@pytest.mark.parametrize("alert", alert_names())
def test_each_alert_is_tested_both_ways(alert: str) -> None:
    stories = re.split(r"^  - name: ", ALERT_TESTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    expected = "".join(story for story in stories if re.match(rf"{alert}\b", story))
    assert re.search(rf'alertname="{alert}"[^\n]*exp_samples: \[\]', expected), "it is never silent"
    assert re.search(rf'alertname="{alert}",alertstate="firing"[^\[]*exp_samples:(?! \[\])', expected), "it never fires"


def test_runbook_has_an_entry_for_each_alert_and_for_no_other() -> None:
    entries = re.findall(r"^### (\w+)$", RUNBOOK.partition("\n## Alerts\n")[2], flags=re.MULTILINE)
    assert sorted(entries) == sorted(alert_names())


def test_alert_says_what_how_urgent_and_where_to_read_on() -> None:
    rules = re.split(r"^ +- alert: ", ALERTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for rule in rules:
        name = rule.partition("\n")[0]
        assert re.search(r"severity: (page|ticket) ", rule), name
        assert f"runbook: docs/runbook.md#{name.lower()}\n" in rule
        assert {"summary:", "description:"} <= set(rule.split()), name


def test_rules_are_about_metrics_that_exist() -> None:
    text = re.sub(r"#.*|(summary|description|runbook):.*", "", ALERTS.read_text(encoding="utf-8"))
    assert metrics_in(text) - known_metrics() == set()
    assert len(metrics_in(text)) > 15
