"""A real worker behind a proxy that loses, cuts and holds what its producer says: no transaction suffers for another.

Orders come in equal batches on one partition, so that a reused sequence number would be taken for a duplicate.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chaos.wire.proxy import ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, PRODUCE, TXN_OFFSET_COMMIT, KafkaProxy
from chaos.wire.relay import Action, Direction, Rule
from tests.factories import make_order
from tests.pipeline import Pipeline, open_pipeline
from tests.processes import Process
from tests.records import wait_for, write_orders
from tests.stack import Stack
from tests.system.workers import FAST, assert_sound

BATCH = 20
REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE
FENCED_ERRORS = {47, 90}  # INVALID_PRODUCER_EPOCH, PRODUCER_FENCED


class Scene:
    """One worker, its proxy, and how many orders it was given."""

    def __init__(self, pipeline: Pipeline, proxy: KafkaProxy) -> None:
        self.pipeline = pipeline
        self.proxy = proxy
        self.orders = 0
        self.worker: Process = pipeline.start(
            "inventory_service",
            role="inventory_rw",
            env={
                **FAST,
                "PIPELINE_KAFKA_BOOTSTRAP": proxy.address,
                "PIPELINE_BATCH_RECORDS_MAX": str(BATCH),
            },
        ).wait_ready()

    def load(self, batches: int) -> None:
        write_orders(self.pipeline, [make_order(user_id=f"u{n}") for n in range(batches * BATCH)])
        self.orders += batches * BATCH

    def settle(self) -> None:
        """Assert that all orders have their one outcome, and that no abort of ours was ever on the wire."""
        assert_sound(self.pipeline, orders=self.orders)
        assert not [frame for frame in self.proxy.seen if frame.kind == END_TXN and frame.detail == "abort"]
        assert self.worker.exit_code is None, self.worker.output()

    def initialisations(self) -> int:
        return self.proxy.kinds(REQUEST).count(INIT_PRODUCER_ID)


@pytest.fixture
def scene(servers: Stack, tmp_path: Path) -> Iterator[Scene]:
    with (
        open_pipeline(servers, logs=tmp_path, partitions=1) as pipeline,
        KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy,
    ):
        pipeline.set_stock({"tea": 100_000})
        running = Scene(pipeline, proxy)
        running.load(2)  # a clean past, so that sequence numbers do not start at zero
        running.settle()
        yield running
        running.worker.kill()


def renewed(kinds: Sequence[int | str], *, after: int) -> bool:
    """Return True if the first transaction after the `after`-th EndTxn has a new producer epoch before it."""
    ends = [index for index, kind in enumerate(kinds) if kind == END_TXN]
    later = list(kinds[ends[after - 1] + 1 :])
    assert ADD_PARTITIONS_TO_TXN in later, "a transaction followed"
    return INIT_PRODUCER_ID in later[: later.index(ADD_PARTITIONS_TO_TXN)]


@pytest.mark.parametrize("action", [Action.DROP, Action.CUT], ids=["answer lost", "connection reset"])
def test_commit_that_was_sent_twice_is_followed_by_a_new_epoch(scene: Scene, action: Action) -> None:
    """H3, H4, H37: the client repeats the EndTxn by itself and reports success; the first copy could end a later one.

    Fault: the answer to one EndTxn is lost, or the connection is reset in its place; the first copy is sent again
    after the next transaction began. Must hold: a new epoch before that transaction, the late copy is refused.
    """
    lost = scene.proxy.rule(END_TXN, direction=RESPONSE, action=action)
    committed = scene.proxy.rule(END_TXN, direction=REQUEST, action=Action.PASS)
    before = scene.proxy.kinds(REQUEST).count(END_TXN)
    scene.load(3)
    lost.wait()
    scene.settle()
    scene.load(1)
    scene.settle()

    copies = 2  # the lost one and the client's own repetition
    assert renewed(scene.proxy.kinds(REQUEST), after=before + copies)
    answer = scene.proxy.replay(committed.wait(0))
    assert int.from_bytes(answer[8:10], "big", signed=True) in FENCED_ERRORS


@pytest.mark.parametrize(
    ("kind", "direction", "action", "times"),
    [
        (PRODUCE, RESPONSE, Action.DROP, 2),
        (PRODUCE, RESPONSE, Action.CUT, 1),
        (PRODUCE, REQUEST, Action.HOLD, 1),
        (TXN_OFFSET_COMMIT, REQUEST, Action.HOLD, 1),
        (TXN_OFFSET_COMMIT, RESPONSE, Action.DROP, 1),
        (ADD_PARTITIONS_TO_TXN, RESPONSE, Action.CUT, 1),
        (ADD_PARTITIONS_TO_TXN, RESPONSE, Action.DROP, 1),
        (END_TXN, REQUEST, Action.HOLD, 1),
    ],
    ids=[
        "produce answer lost",
        "produce cut",
        "produce late",
        "offsets late",
        "offsets answer lost",
        "add cut",
        "add answer lost",
        "end late",
    ],
)
def test_failed_transaction_leaves_nothing_to_the_next_one(
    scene: Scene, kind: int, direction: Direction, action: Action, times: int
) -> None:
    """H1, H2, H5, H6, H30-32, H49, H50: what is late or unacknowledged in one transaction must not join, hide or rewind
    the next one.

    Fault: one message of a transaction is lost, cut or late. Must hold: a new epoch, and every event visible once.
    """
    before = scene.initialisations()
    rule: Rule = scene.proxy.rule(kind, direction=direction, action=action, times=times, seconds=3.0)
    scene.load(3)
    rule.wait()
    wait_for(lambda: scene.initialisations() > before, what="a rebuilt producer")
    rule.release()
    scene.settle()
    scene.load(2)
    scene.settle()
