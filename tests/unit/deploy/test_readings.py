import pytest

from deploy.local import readings
from deploy.local.readings import Counters, Reader, parse
from deploy.local.runner import State
from deploy.local.state import ProcessState

PAGE = """\
# TYPE order_requests_accepted_total counter
order_requests_accepted_total 7.0
# TYPE inventory_decisions_total counter
inventory_decisions_total{verdict="reserved"} 5.0
inventory_decisions_total{verdict="failed"} 2.0
# TYPE kafka_consumer_lag_records gauge
kafka_consumer_lag_records{group="inventory"} 3.0
kafka_consumer_lag_records{group="notification"} 100.0
"""


def make_process(label: str = "inventory-0") -> ProcessState:
    return ProcessState(label, "inventory", 0, State.READY, pid=2**30, started_at=0.0, restarts=0, port=1)


def test_counters_are_read_off_a_page() -> None:
    assert parse(PAGE) == Counters(accepted=7, reserved=5, failed=2, lag_records=3)


@pytest.mark.parametrize("page", ["", "# a comment\n", "{}}{ no metrics\n"])
def test_absent_numbers_are_unknown_not_zero(page: str) -> None:
    assert parse(page) == Counters()


def test_counts_of_two_workers_are_added() -> None:
    assert Counters(reserved=1) + Counters(reserved=2, failed=1) == Counters(reserved=3, failed=1)


def test_count_goes_on_when_a_restarted_worker_begins_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = iter(
        f'inventory_decisions_total{{verdict="reserved"}} {count}\nkafka_consumer_lag_records{{group="inventory"}} 4\n'
        for count in (10, 2, 3)
    )
    monkeypatch.setattr(readings, "get", lambda _port, path, **_: next(pages) if path == "/metrics" else "ready")
    reader = Reader()
    taken = [reader.take([make_process()]).counters for _ in range(3)]
    assert [counters.reserved for counters in taken] == [10, 12, 13]
    assert [counters.lag_records for counters in taken] == [4, 4, 4]


def test_count_stands_while_a_worker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = iter([PAGE, None])
    monkeypatch.setattr(readings, "get", lambda _port, path, **_: next(pages) if path == "/metrics" else None)
    reader = Reader()
    assert [reader.take([make_process()]).counters.reserved for _ in range(2)] == [5, 5]
