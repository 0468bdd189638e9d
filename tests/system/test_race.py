"""Workers that want the same stock at the same moment."""

import json
from pathlib import Path

import sqlalchemy as sa

from chaos.run.plan import Action, Arm
from common.topics import INVENTORY_RESERVED
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import read, wait_for, write_orders
from tests.system.workers import Workers, assert_sound

ORDERS = 1500
HOT = 400
PATIENT = json.dumps({"session.timeout.ms": 30_000, "heartbeat.interval.ms": 500})
"""However long the other takes to sell out, the sleeper stays in the group: stock alone comes between the two."""


def test_two_workers_never_sell_the_last_one_twice(pipeline: Pipeline, tmp_path: Path) -> None:
    """Aim: the CHECK and the late lock. Fault: two slots, small batches, one SKU in every order, far too little of it;
    one worker is stopped between reading the stock and taking it, until the other has sold it out.

    Must hold: the sleeper's batch is undone and decided again, exactly what was there is reserved, nothing deadlocks.
    """
    pipeline.set_stock({"hot": HOT, "tea": 100_000})
    workers = Workers(pipeline, tmp_path, batch_records_max=10)
    nap = Arm(point="inventory:db.decided", action=Action.STOP, hit=2)
    workers.arm(nap)
    running = [workers.start(slot, PIPELINE_KAFKA_CONSUMER_OPTIONS=PATIENT).wait_ready() for slot in range(2)]
    lines = ([("hot", 1), ("tea", 1)], [("tea", 1), ("hot", 1)])
    write_orders(pipeline, [make_order(lines=lines[n % 2], user_id=f"u{n}") for n in range(ORDERS)])
    asleep = workers.wait_fired(nap)
    wait_for(lambda: pipeline.available()["hot"] == 0, what="the other worker's sale of all there is")
    next(worker for worker in running if worker.pid == asleep.pid).thaw()

    assert_sound(pipeline, orders=ORDERS)
    assert len(read(pipeline, INVENTORY_RESERVED)) == HOT
    assert pipeline.available() == {"hot": 0, "tea": 100_000 - HOT}
    assert any('"failure": "guard"' in worker.output() for worker in running), "its stale batch was undone"
    for worker in running:
        assert '"batch.committed"' in worker.output(), "both workers had a share"
        assert '"40P01"' not in worker.output(), "no deadlock"
        assert worker.stop() == 0, worker.output()
    with pipeline.administer() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM inventory.decision")) == ORDERS
