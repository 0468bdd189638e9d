import threading
import time
from pathlib import Path

import pytest

from deploy.local.home import Home
from deploy.local.stack import readings
from deploy.local.stack.readings import Readings, lag_on, take, taken_regularly
from deploy.local.stack.state import ProcessState
from deploy.local.stack.totals import Totals, read_totals
from deploy.local.supervise.runner import State

PAGE = """\
# TYPE inventory_decisions_total counter
inventory_decisions_total{verdict="reserved"} 5.0
# TYPE kafka_consumer_lag_records gauge
kafka_consumer_lag_records{group="inventory",partition="0"} 3.0
kafka_consumer_lag_records{group="inventory",partition="1"} 2.0
kafka_consumer_lag_records{group="notification",partition="0"} 100.0
"""


def make_process(label: str = "inventory-0") -> ProcessState:
    return ProcessState(label, "inventory", 0, State.READY, pid=2**30, started_at=0.0, restarts=0, port=1)


def test_lag_is_read_off_a_page() -> None:
    assert lag_on(PAGE) == 5


@pytest.mark.parametrize("page", ["", "# a comment\n", "{}}{ no metrics\n"])
def test_lag_that_no_worker_reports_is_unknown_not_zero(page: str) -> None:
    assert lag_on(page) is None


def test_lag_of_two_workers_is_added_and_totals_are_no_process_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What processes count begins at zero with each of them, so it is no total."""
    monkeypatch.setattr(readings, "get", lambda _port, path, **_: PAGE if path == "/metrics" else "ready")
    taken = take(Home(tmp_path), [make_process(), make_process("inventory-1")])
    assert taken.lag_records == 10
    assert taken.totals == Totals(None, None)


def test_lag_is_unknown_while_a_partition_has_no_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers say the lag of what they own: of what no worker owns it may be anything, and 0 would be a lie."""
    unread = PAGE + "# TYPE kafka_unread_partitions gauge\nkafka_unread_partitions 4.0\n"
    pages = iter([PAGE, unread])
    monkeypatch.setattr(readings, "get", lambda _port, path, **_: next(pages) if path == "/metrics" else "ready")
    assert take(Home(tmp_path), [make_process(), make_process("inventory-1")]).lag_records is None


def test_processes_are_asked_at_once_and_not_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`status` took 1.8 s on a calm machine: two requests to each of eight processes."""
    asked = threading.Barrier(6)

    def answer(_port: int, path: str, **_: float) -> str:
        asked.wait(timeout=5)
        return PAGE if path == "/metrics" else "ready"

    monkeypatch.setattr(readings, "get", answer)
    taken = take(Home(tmp_path), [make_process(f"inventory-{slot}") for slot in range(3)])
    assert taken.lag_records == 15
    assert all(each.serves for each in taken.processes.values())


@pytest.mark.parametrize("shown", [True, False])
def test_readings_are_taken_only_if_they_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, shown: bool
) -> None:
    """They took a tenth of a core, more than the five services together while idle."""
    monkeypatch.setattr(readings, "PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(readings, "take", lambda *_: Readings(lag_records=7))
    with taken_regularly(Home(tmp_path), tuple, shown=shown) as latest:
        until = time.monotonic() + (5 if shown else 0.2)
        while latest().lag_records is None and time.monotonic() < until:
            time.sleep(0.01)
        assert latest().lag_records == (7 if shown else None)


def test_lag_is_asked_of_inventory_workers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A page of metrics costs the process that makes it more than a second of waiting for work."""
    asked = []
    monkeypatch.setattr(readings, "get", lambda port, path, **_: asked.append((port, path)))
    other = ProcessState(
        "notification-0", "notification", 0, State.READY, pid=2**30, started_at=0.0, restarts=0, port=2
    )
    take(Home(tmp_path), [make_process(), other])
    assert sorted(asked) == [(1, "/metrics"), (1, "/readyz"), (2, "/readyz")]


def test_totals_of_a_database_that_does_not_answer_are_unknown() -> None:
    assert read_totals("postgresql://reader@127.0.0.1:1/nothing") == Totals(None, None)
