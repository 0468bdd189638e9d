"""Faults on `orders.created`: poison of every form, and a transaction that a dead foreign producer left open."""

import random
import threading
import time
from collections.abc import Sequence

import confluent_kafka
import uuid_utils
from confluent_kafka import KafkaException

from audit.readers.cluster import Cluster
from audit.readers.written import read_written
from audit.terms import Spot
from audit.testimony import Kind
from chaos.faults.harness import Evidence, Fault, Harness, Hurts
from chaos.load import DirectLoad
from chaos.load.poison import POISON
from chaos.load.records import PlannedRecord
from chaos.run.findings import VoidRunError
from chaos.run.pipeline import Pipeline
from common.events.orders import OrderCreated, OrderLine
from common.topics import ORDERS_CREATED

REFUSED_SKU = "refused-by-the-database"
REFUSED = "rejected by the database"
PATIENCE_SECONDS = 60.0
CALL_SECONDS = 10.0
TRANSACTION_SECONDS = 3
GARBAGE = 5

Poisonous = tuple[str, OrderCreated, bytes | None]
"""What is wrong with it, the order that it was, and its value."""


def have_marked_orders_refused(pipeline: Pipeline) -> None:
    """Make the database reject the decision of any order that wants `REFUSED_SKU`, as no check of the code does."""
    pipeline.administer(
        "CREATE FUNCTION inventory.refuse_marked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF '{REFUSED_SKU}' = ANY(NEW.skus) THEN RAISE EXCEPTION 'refused' USING ERRCODE = '22023'; END IF;"
        " RETURN NEW; END $$"
    )
    pipeline.administer(
        "CREATE TRIGGER refuse_marked BEFORE INSERT ON inventory.decision"
        " FOR EACH ROW EXECUTE FUNCTION inventory.refuse_marked()"
    )


def poison(harness: Harness, chance: random.Random) -> Evidence:
    """Write one record of every form that holds no order, and one order that the database rejects."""
    spoilt = [(what, _order("tea"), spoil) for what, spoil in POISON.items()]
    records = [*((what, order, spoil(harness.codec, order)) for what, order, spoil in spoilt), _refused(harness)]
    chance.shuffle(records)
    return {"records": _write(harness, records, chance), "forms": len(records)}


def reject(harness: Harness, chance: random.Random) -> Evidence:
    """Write a few orders that the database rejects: the batches with them must be taken apart."""
    return {"records": _write(harness, [_refused(harness) for _ in range(chance.randint(1, 3))], chance)}


def _order(sku: str) -> OrderCreated:
    user = f"poisoner-{uuid_utils.uuid4()}"
    return OrderCreated(str(uuid_utils.uuid7()), user, (OrderLine(sku, 1),), time.time_ns() // 1_000_000)


def _refused(harness: Harness) -> Poisonous:
    order = _order(REFUSED_SKU)
    return REFUSED, order, harness.codec.encode(order)


def _write(
    harness: Harness, records: Sequence[Poisonous], chance: random.Random
) -> list[tuple[int | None, int | None]]:
    """Write the records and name each to the judge; return where they stand. Raises VoidRunError if one is unsure."""
    pipeline = harness.pipeline
    partitions = harness.insist(lambda: len(Cluster(pipeline.settings).spots(ORDERS_CREATED)), "count the partitions")
    planned = [
        PlannedRecord(
            Kind.POISON,
            what,
            order.order_id if what == REFUSED else "",
            order.user_id,
            value,
            chance.randrange(partitions),
            order.placed_at_ms,
        )
        for what, order, value in records
    ]
    tally = DirectLoad(pipeline.settings, pipeline.planted).write(planned)
    if tally.info:
        raise VoidRunError(f"{tally.info} poisonous records were not acknowledged")
    return [(each.partition, each.offset) for each in read_written([pipeline.planted])[-len(planned) :]]


def hang(harness: Harness, chance: random.Random) -> Evidence:
    """Begin a transaction on the input, write garbage, and never end it: readers wait until the broker does."""
    left = harness.insist(lambda: _leave_open(harness, chance), "leave a transaction open")
    time.sleep(TRANSACTION_SECONDS)
    return left


def _leave_open(harness: Harness, chance: random.Random) -> Evidence:
    settings = harness.pipeline.settings
    topic = ORDERS_CREATED.within(settings.namespace)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "transactional.id": f"foreign-{uuid_utils.uuid4()}",
            "transaction.timeout.ms": 1000 * TRANSACTION_SECONDS,
            "message.timeout.ms": 1000 * TRANSACTION_SECONDS,
            "socket.timeout.ms": 1000,
            "log_level": 0,
        }
    )
    left: list[int] = []
    try:
        producer.init_transactions(PATIENCE_SECONDS)
        partition = chance.randrange(len(producer.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions))
        producer.begin_transaction()
        for _ in range(GARBAGE):
            producer.produce(
                topic,
                b"of a transaction that never ends",
                partition=partition,
                on_delivery=lambda error, message: left.append(message.offset() or 0) if error is None else None,
            )
        producer.flush(CALL_SECONDS)
        if not left:
            raise VoidRunError("the foreign transaction holds nothing")
        stable = Cluster(settings).stable_ends((ORDERS_CREATED,))[Spot(ORDERS_CREATED.name, partition)]
    except KafkaException as error:
        raise VoidRunError(f"no foreign transaction: {error.args[0].str()}") from error
    finally:
        _abandon([producer])
        del producer
    if stable > left[0]:
        raise VoidRunError("the foreign transaction held no reader up")
    return {"partition": partition, "offsets": left, "stable_end": stable}


def _abandon(held: list[confluent_kafka.Producer]) -> None:
    """Let a producer go without a word to the broker, as a death would."""
    threading.Thread(target=held.clear, name="abandoned-producer", daemon=True).start()


FAULTS = (
    Fault("poison of every form", Hurts.TOPIC, poison),
    Fault("order that the database rejects", Hurts.TOPIC, reject),
    Fault("hanging foreign transaction", Hurts.TOPIC, hang),
)
