import json
from pathlib import Path

from benchmarks import results


def test_findings_are_kept_with_the_moment_they_were_taken(tmp_path: Path) -> None:
    path = results.keep("reserve", {"ratio": 130.0}, folder=tmp_path / "new")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert path.name.startswith("reserve-20")
    assert path.suffix == ".json"
    assert kept["ratio"] == 130.0
    assert kept["taken_at"].endswith("+00:00")


def test_the_conditions_are_reported() -> None:
    assert results.machine()["cores"] >= 1
    assert {"python", "confluent-kafka", "psycopg"} <= results.client_versions().keys()
