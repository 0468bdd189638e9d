"""A worker that sleeps through its own replacement must not act on what it still believes."""

from pathlib import Path

import pytest

from chaos.run.plan import Action, Arm
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import wait_for, write_orders
from tests.system.workers import Workers, assert_sound

ORDERS = 100


def refused(zombie: Process) -> bool:
    """Return True once its transaction was refused, or not begun: it may learn first that it is no member any more."""
    return "transaction.unsure" in zombie.output() or '"not a member"' in zombie.output()


@pytest.mark.parametrize("point", ["taken", "metadata", "db.committed", "produced"])
def test_zombie_that_wakes_after_takeover_changes_nothing(pipeline: Pipeline, tmp_path: Path, point: str) -> None:
    """H9, H11, H45. Aim: KIP-447 fencing by generation, and the owner's stored bytes.

    Fault: SIGSTOP with a batch in hand, past the session time-out; another slot takes the partitions over and finishes
    all orders; SIGCONT. Must hold: the sleeper's transaction is refused, every order has one event.
    """
    pipeline.set_stock({"tea": 10_000})
    workers = Workers(pipeline, tmp_path)
    arm = Arm(point=f"inventory:{point}", action=Action.STOP, hit=2)
    workers.arm(arm)
    zombie = workers.start(slot=0).wait_ready()
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])
    workers.wait_fired(arm)

    heir = workers.start(slot=1)
    assert_sound(pipeline, orders=ORDERS)  # all partitions are with the heir, which finished what the zombie holds
    zombie.thaw()
    wait_for(lambda: refused(zombie), what="the zombie's refused transaction")

    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])
    assert_sound(pipeline, orders=2 * ORDERS)
    assert zombie.stop() == 0, zombie.output()
    assert heir.stop() == 0, heir.output()
