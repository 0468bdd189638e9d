"""Kill the inventory worker at every named point of its loop; the slot's next process goes on, and the books hold.

One pipeline for all points: each test adds orders, kills once, restarts the slot and has everything since the first
order judged by the checker.
"""

from collections.abc import Iterator

import pytest

from chaos.run.plan import Action, Arm
from common.topics import ORDERS_CREATED
from tests.factories import make_order
from tests.pipeline import Pipeline, open_pipeline
from tests.records import write, write_orders
from tests.stack import Stack
from tests.system.workers import Workers, assert_sound

STOCK = {"tea": 100_000, "mug": 100_000, "scarce": 20, "empty": 0}
ORDERS = 60

CLOSED = ("taken", "metadata", "decoded", "db.read", "db.decided", "db.sent", "db.committed", "before_begin")
OPEN = ("begun", "produced_half", "produced", "flushed", "offsets_sent")
OVER = ("committed", "advanced")
RECOVER = ("enter", "dropped", "inited", "committed_read", "seeked", "assigned")


class Scene:
    """The pipeline, and how many distinct orders it was given."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.orders = 0

    @property
    def pipeline(self) -> Pipeline:
        return self.workers.pipeline

    def load(self) -> None:
        """Write orders of every kind of outcome, some twice: next to themselves, later, and on another partition."""
        orders = [
            make_order(
                lines=[(("tea", "mug", "scarce", "empty")[n % 4], 1), ("tea" if n % 4 else "mug", 2)], user_id=f"u{n}"
            )
            for n in range(ORDERS)
        ]
        write_orders(self.pipeline, [orders[0], *orders, orders[5]])
        write_orders(self.pipeline, orders[7:10], partition=0)
        self.orders += ORDERS


@pytest.fixture(scope="module")
def scene(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("crash-points")
    with open_pipeline(servers, logs=folder, partitions=4) as pipeline:
        pipeline.set_stock(STOCK)
        yield Scene(Workers(pipeline, folder))


def kill_at(scene: Scene, point: str, *, hit: int, txn_open: bool) -> None:
    arm = Arm(point=f"inventory:{point}", action=Action.KILL, hit=hit)
    scene.workers.arm(arm)
    killed = scene.workers.start()
    scene.load()
    assert killed.wait(timeout_seconds=30) == -9, killed.output()
    fired = scene.workers.wait_fired(arm)
    assert (fired.pid, fired.txn_open) == (killed.pid, txn_open)

    successor = scene.workers.start()
    try:
        assert_sound(scene.pipeline, orders=scene.orders)
        assert successor.stop() == 0, successor.output()
    finally:
        successor.kill()  # whatever was found, the slot is free for the next point


@pytest.mark.parametrize("point", CLOSED)
def test_killed_before_the_kafka_transaction_opens(scene: Scene, point: str) -> None:
    """Whatever PostgreSQL committed is found again, and its stored bytes go out."""
    kill_at(scene, point, hit=2, txn_open=False)


@pytest.mark.parametrize("point", OPEN)
def test_killed_with_the_kafka_transaction_open(scene: Scene, point: str) -> None:
    """The successor's initialisation aborts it; nothing of it was ever visible."""
    kill_at(scene, point, hit=2, txn_open=True)


@pytest.mark.parametrize("point", OVER)
def test_killed_after_the_kafka_commit(scene: Scene, point: str) -> None:
    """The offsets moved with the events: nothing comes again."""
    kill_at(scene, point, hit=2, txn_open=False)


@pytest.mark.parametrize("point", RECOVER)
def test_killed_while_it_finds_its_way_back(scene: Scene, point: str) -> None:
    """Recovery reads broker-side facts alone, so it can be begun again at any time."""
    kill_at(scene, point, hit=1, txn_open=False)


@pytest.mark.parametrize(("point", "txn_open"), [("dlq.isolated", False), ("dlq.produced", True)])
def test_killed_around_a_dead_letter(scene: Scene, point: str, *, txn_open: bool) -> None:
    """A dead letter is in the transaction of its offset: one per record, however often it is tried."""
    write(scene.pipeline, ORDERS_CREATED, [(b"u1", b"not an event")])
    kill_at(scene, point, hit=1, txn_open=txn_open)
