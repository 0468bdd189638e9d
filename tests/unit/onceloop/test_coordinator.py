"""When a client is seen to look for its group's coordinator where no broker is."""

import json

import pytest

from onceloop.kafka.coordinator import SIGNS_MAX, CoordinatorWatch

HERE, THERE = "10.0.0.1:9092", "10.0.0.9:9092"


def statistics(*, sought: str = HERE, state: str = "TRY_CONNECT", broker: str = "UP") -> str:
    return json.dumps(
        {
            "brokers": {
                f"{HERE}/1": {"name": f"{HERE}/1", "nodename": HERE, "nodeid": 1, "state": broker, "source": "learned"},
                "GroupCoordinator": {
                    "name": "GroupCoordinator", "nodename": sought, "nodeid": -1, "state": state, "source": "logical",
                },
            }
        }
    )  # fmt: skip


def test_coordinator_that_is_sought_where_no_broker_is_counts_as_lost_after_some_statistics() -> None:
    watch = CoordinatorWatch()
    for _ in range(SIGNS_MAX):
        assert watch.lost == ""
        watch.learn(statistics(sought=THERE))
    assert watch.lost == THERE


@pytest.mark.parametrize(
    "shown",
    [
        statistics(sought=THERE, state="UP"),
        statistics(sought=HERE),
        statistics(sought=""),
        statistics(sought=THERE, broker="DOWN"),
        "{}",
        '{"brokers": 7}',
        "no json",
    ],
    ids=["reached", "its broker is away", "not known yet", "no broker answers", "nothing", "other", "unreadable"],
)
def test_all_else_takes_the_doubt_back(shown: str) -> None:
    watch = CoordinatorWatch()
    for _ in range(SIGNS_MAX - 1):
        watch.learn(statistics(sought=THERE))
    watch.learn(shown)
    watch.learn(statistics(sought=THERE))
    assert watch.lost == ""
