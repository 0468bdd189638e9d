"""Faults on `orders.created`: poison of every form, and a transaction that a dead foreign producer left open."""

import random
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import confluent_kafka
import uuid_utils
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from audit.readers.collector import digest
from audit.readers.written import WrittenWriter
from audit.testimony import Kind, Written
from chaos.faults.harness import Evidence, Fault, Harness, Hurts
from chaos.load.poison import POISON
from chaos.run.findings import VoidRunError
from chaos.run.pipeline import Pipeline
from common.events import envelope
from common.events.orders import OrderCreated, OrderLine
from common.topics import MESSAGE_BYTES_MAX, ORDERS_CREATED

REFUSED_SKU = "refused-by-the-database"
REFUSED = "rejected by the database"
PATIENCE_SECONDS = 60.0
CALL_SECONDS = 10.0
TRANSACTION_SECONDS = 3
GARBAGE = 5


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
    records: list[tuple[str, OrderCreated, bytes | None]] = []
    for what, spoil in POISON.items():
        order = _order("tea")
        records.append((what, order, spoil(harness.codec, order)))
    refused = _order(REFUSED_SKU)
    records.append((REFUSED, refused, harness.codec.encode(refused)))
    chance.shuffle(records)
    return {"records": _plant(harness, records, chance), "forms": len(records)}


def reject(harness: Harness, chance: random.Random) -> Evidence:
    """Write a few orders that the database rejects: the batches with them must be taken apart."""
    orders = [_order(REFUSED_SKU) for _ in range(chance.randint(1, 3))]
    return {"records": _plant(harness, [(REFUSED, order, harness.codec.encode(order)) for order in orders], chance)}


def _order(sku: str) -> OrderCreated:
    user = f"poisoner-{uuid_utils.uuid4()}"
    return OrderCreated(str(uuid_utils.uuid7()), user, (OrderLine(sku, 1),), time.time_ns() // 1_000_000)


def _plant(
    harness: Harness, records: Sequence[tuple[str, OrderCreated, bytes | None]], chance: random.Random
) -> list[tuple[int, int]]:
    """Write the records and tell the judge of each; return where they stand. Raises VoidRunError if one is unsure."""
    settings = harness.pipeline.settings
    topic = ORDERS_CREATED.within(settings.namespace)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "client.id": "poisoner",
            "log_level": 2,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "message.max.bytes": 2 * MESSAGE_BYTES_MAX,
            "message.timeout.ms": round(1000 * PATIENCE_SECONDS),
            "reconnect.backoff.max.ms": 500,
        }
    )
    stands: dict[int, tuple[int, int]] = {}

    def note(number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            stands[number] = (message.partition() or 0, message.offset() or 0)

    try:
        partitions = len(producer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic].partitions)
        for number, (_, order, value) in enumerate(records):
            headers = envelope.headers(
                event_id=order.order_id, event_type="order.created", source="/poison", time_ms=order.placed_at_ms
            )
            producer.produce(
                topic,
                value,
                order.user_id.encode(),
                partition=chance.randrange(partitions),
                headers=list(headers),
                on_delivery=partial(note, number),
            )
        producer.flush(PATIENCE_SECONDS + CALL_SECONDS)
    except KafkaException as error:
        raise VoidRunError(f"the poison was not taken: {error.args[0].str()}") from error
    finally:
        _tell(harness, records, stands)
    if len(stands) < len(records):
        raise VoidRunError(f"{len(records) - len(stands)} poisonous records were not acknowledged")
    return sorted(stands.values())


def _tell(
    harness: Harness, records: Sequence[tuple[str, OrderCreated, bytes | None]], stands: dict[int, tuple[int, int]]
) -> None:
    with WrittenWriter(harness.pipeline.planted) as written:
        for number, (what, order, value) in enumerate(records):
            partition, offset = stands.get(number, (None, None))
            written.note(
                Written(
                    Kind.POISON,
                    what,
                    order.order_id if what == REFUSED else "",
                    order.user_id,
                    partition,
                    offset,
                    digest(order.user_id.encode(), value).hex(),
                )
            )


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
        stable = _stable_end(settings.kafka_bootstrap, topic, partition)
    except KafkaException as error:
        raise VoidRunError(f"no foreign transaction: {error.args[0].str()}") from error
    finally:
        _abandon([producer])
        del producer
    if stable > left[0]:
        raise VoidRunError("the foreign transaction held nobody up")
    return {"partition": partition, "offsets": left, "stable_end": stable}


def _abandon(held: list[confluent_kafka.Producer]) -> None:
    """Let a producer go without a word to the broker, as a death would."""
    threading.Thread(target=held.clear, name="abandoned-producer", daemon=True).start()


def _stable_end(bootstrap: str, topic: str, partition: int) -> int:
    options = {"bootstrap.servers": bootstrap, "group.id": "chaos-ends", "isolation.level": "read_committed"}
    with closing(confluent_kafka.Consumer(options)) as consumer:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=CALL_SECONDS)[1])


FAULTS = (
    Fault("poison of every form", Hurts.TOPIC, poison),
    Fault("order that the database rejects", Hurts.TOPIC, reject),
    Fault("hanging foreign transaction", Hurts.TOPIC, hang),
)
