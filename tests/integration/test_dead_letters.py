"""What will never become an order: one real worker copies it to the dead letters, whole, and goes on."""

import ctypes
import json
import secrets
import struct
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition, cimpl

from common.events.codec import Codec
from common.events.orders import LINES_MAX, QUANTITY_MAX, OrderCreated
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED, dead_letter_topic
from onceloop.errors import ExitCode
from tests.factories import make_order
from tests.pipeline import Pipeline, open_pipeline
from tests.processes import Process
from tests.records import codec_of, read, wait_for, write_orders
from tests.stack import Stack

DEAD_LETTERS = dead_letter_topic(ORDERS_CREATED, INVENTORY)
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it stands on its topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> str:
        """Return the last header of this name as text."""
        return (dict(self.headers)[name] or b"").decode()


class Shop:
    """A pipeline with one worker that lives through all of this module's tests."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.codec: Codec = codec_of(pipeline)
        self.worker: Process = pipeline.start("inventory_service", role="inventory_rw")
        self.all_letters: list[Letter] = []
        self._outcomes: list[str] = []
        self._reader = open_reader(pipeline)
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
                "compression.type": "gzip",
                "message.max.bytes": 10**8,
            }
        )

    def write(self, value: bytes | None, key: bytes | None = b"ada", headers: Headers = ()) -> int:
        """Write one record to partition 0; return its offset."""
        offsets: list[int] = []

        def delivered(error: object, message: Any) -> None:
            assert error is None, error
            offsets.append(message.offset())

        topic = ORDERS_CREATED.within(self.pipeline.namespace)
        self._producer.produce(topic, value, key, 0, on_delivery=delivered, headers=list(headers))
        assert self._producer.flush(20) == 0
        return offsets[0]

    def order(self) -> OrderCreated:
        """Write a good order to the same partition."""
        order = make_order(lines=[("tea", 1)])
        self.write(self.codec.encode(order))
        return order

    def close(self) -> None:
        self._reader.close()

    def outcomes(self) -> list[str]:
        """Return the order ids of the outcomes that are visible by now."""
        self._read()
        return self._outcomes

    def letters(self, offset: int) -> list[Letter]:
        """Return the dead letters, by now, of the record at this offset."""
        self._read()
        return [letter for letter in self.all_letters if letter.header("dlq_offset") == str(offset)]

    def _read(self) -> None:
        """Take what became visible since the last time."""
        while (message := self._reader.poll(0.05)) is not None:
            assert message.error() is None, message.error()
            if message.topic() == DEAD_LETTERS.within(self.pipeline.namespace):
                headers: Any = message.headers()
                self.all_letters.append(Letter(message.key(), message.value(), tuple(headers)))
            else:
                self._outcomes.append((message.value() or b"")[43:79].decode())  # behind the frame and the event id


def open_reader(pipeline: Pipeline) -> confluent_kafka.Consumer:
    """Return a consumer that stands at the beginning of the outcomes and the dead letters."""
    reader = confluent_kafka.Consumer(
        {
            "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
            "group.id": "reads-once",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
        }
    )
    topics = (INVENTORY_RESERVED, INVENTORY_FAILED, DEAD_LETTERS)
    reader.assign(
        [TopicPartition(topic.within(pipeline.namespace), 0, confluent_kafka.OFFSET_BEGINNING) for topic in topics]
    )
    return reader


@pytest.fixture(scope="module")
def shop(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_pipeline(servers, logs=tmp_path_factory.mktemp("logs"), partitions=1) as pipeline:
        pipeline.set_stock({"tea": 100_000})
        shop = Shop(pipeline)
        shop.worker.wait_ready()
        yield shop
        shop.close()


def only_letter(
    shop: Shop, value: bytes | None, *, key: bytes | None = b"ada", headers: Headers = ()
) -> tuple[Letter, int]:
    """Write the record between two good orders; return its one dead letter once both orders have their outcome."""
    before = shop.order()
    offset = shop.write(value, key, headers)
    behind = shop.order()
    wait_for(
        lambda: {before.order_id, behind.order_id} <= set(shop.outcomes()),
        what=f"the outcomes of the orders around; the worker says {shop.worker.exit_code}",
    )
    wait_for(lambda: bool(shop.letters(offset)), what="its dead letter")  # of another topic: another fetch
    outcomes, letters = shop.outcomes(), shop.letters(offset)
    assert len(outcomes) == len(set(outcomes))
    assert len(letters) == 1
    assert shop.worker.exit_code is None
    return letters[0], offset


def of(schema_id: int, value: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + value[5:]


def bad_values(codec: Codec) -> dict[str, tuple[bytes | None, str]]:
    """Return name -> (value, class of the error it leads to)."""
    good = codec.encode(make_order())
    impossible = {
        "quantity 0": make_order(lines=[("tea", 0)]),
        "quantity below 0": make_order(lines=[("tea", -5)]),
        "quantity too large": make_order(lines=[("tea", QUANTITY_MAX + 1)]),
        "sku twice": make_order(lines=[("tea", 1), ("tea", 1)]),
        "no lines": make_order(lines=[]),
        "101 lines": make_order(lines=[(f"sku-{n}", 1) for n in range(LINES_MAX + 1)]),
        "control character": make_order(lines=[("te\x1fa", 1)]),
        "NUL": make_order(user_id="a\x00da"),
        "no uuid": make_order(order_id="order-1"),
        "uuid in capitals": make_order(order_id=str(uuid.uuid4()).upper()),
        "time before 1970": make_order(placed_at_ms=-1),
        "time out of range": make_order(placed_at_ms=2**62),
    }
    return {
        "no value": (None, "frame"),
        "empty": (b"", "frame"),
        "garbage": (b"\x80garbage\xff\x00", "magic"),
        "json": (json.dumps({"order_id": 1}).encode(), "magic"),
        "foreign magic": (b"\x01" + good[1:], "magic"),
        "unknown schema id": (of(2_000_000_000, good), "schema"),
        "truncated": (good[:-3], "avro"),
        "bytes behind": (good + b"!", "avro"),
        "frame alone": (good[:5], "avro"),
        **{name: (codec.encode(order), "content") for name, order in impossible.items()},
    }


NAMES = [
    "no value", "empty", "garbage", "json", "foreign magic", "unknown schema id", "truncated", "bytes behind",
    "frame alone", "quantity 0", "quantity below 0", "quantity too large", "sku twice", "no lines", "101 lines",
    "control character", "NUL", "no uuid", "uuid in capitals", "time before 1970", "time out of range",
]  # fmt: skip


def test_names_are_those_of_all_bad_values(shop: Shop) -> None:
    assert list(bad_values(shop.codec)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_bad_record_is_one_dead_letter_and_the_orders_around_it_get_their_outcome(shop: Shop, name: str) -> None:
    value, error_class = bad_values(shop.codec)[name]
    headers = (("trace", b"\x00\xff"), ("trace", None), ("ünïcode", b"v"))
    letter, offset = only_letter(shop, value, key=b"\xffkey", headers=headers)
    assert (letter.key, letter.value) == (b"\xffkey", value)
    assert tuple(letter.headers[:3]) == headers
    assert letter.header("dlq_error_class") == error_class
    assert letter.header("dlq_reason")
    assert letter.header("dlq_topic") == ORDERS_CREATED.within(shop.pipeline.namespace)
    assert (letter.header("dlq_partition"), letter.header("dlq_offset")) == ("0", str(offset))


def test_many_bad_records_in_a_row_are_one_dead_letter_each(shop: Shop) -> None:
    offsets = [shop.write(secrets.token_bytes(20)) for _ in range(30)]
    last = shop.order()
    wait_for(lambda: last.order_id in shop.outcomes(), what="the outcome of the order behind them")
    wait_for(lambda: all(shop.letters(offset) for offset in offsets), what="a dead letter of each")
    assert [len(shop.letters(offset)) for offset in offsets] == [1] * 30


def test_record_of_another_event_is_a_dead_letter(shop: Shop) -> None:
    order = shop.order()
    wait_for(lambda: order.order_id in shop.outcomes(), what="an outcome")
    outcome = read(shop.pipeline, INVENTORY_RESERVED)[0]
    letter, _ = only_letter(shop, outcome.value, key=outcome.key)
    assert letter.value == outcome.value


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ("JSON", '{"type": "object", "properties": {"order_id": {"type": "string"}}}'),
        ("PROTOBUF", 'syntax = "proto3"; message Order { string order_id = 1; }'),
    ],
)
def test_record_whose_schema_is_no_avro_is_a_dead_letter(shop: Shop, kind: str, schema: str) -> None:
    schema_id = register(shop.pipeline, kind, schema)
    letter, _ = only_letter(shop, of(schema_id, shop.codec.encode(make_order())))
    assert letter.header("dlq_error_class") == "schema"


def register(pipeline: Pipeline, kind: str, schema: str) -> int:
    """Register a schema of another kind under a subject of the test's own."""
    request = urllib.request.Request(  # noqa: S310 - the registry of this run
        f"{pipeline.kafka.registry_url}/subjects/{pipeline.namespace}-{kind.lower()}/versions",
        data=json.dumps({"schemaType": kind, "schema": schema}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        return int(json.load(answer)["id"])


def test_record_as_large_as_the_topic_takes_is_a_dead_letter_with_all_its_bytes(shop: Shop) -> None:
    value = secrets.token_bytes(1_040_000)
    letter, _ = only_letter(shop, value)
    assert letter.value == value


@pytest.mark.parametrize("megabytes", [1.2, 3, 20])
def test_record_that_only_compression_made_fit_does_not_stop_its_partition(shop: Shop, megabytes: float) -> None:
    """The topic counts compressed bytes, and gzip compresses better than what the letter is written with."""
    length = int(megabytes * 1_000_000)
    value = secrets.token_bytes(700_000).hex().encode()[:length].ljust(length, b"0")
    letter, _ = only_letter(shop, value)
    assert letter.value is None
    assert int(letter.header("dlq_omitted_bytes")) >= length


def test_header_whose_name_is_no_text_does_not_stop_its_partition(shop: Shop) -> None:
    before, value = shop.order(), b"garbage " + secrets.token_hex(8).encode()
    write_with_header(shop.pipeline, b"\xff\xfename", value)
    behind = shop.order()
    wait_for(
        lambda: (
            {before.order_id, behind.order_id} <= set(shop.outcomes())
            and value in [letter.value for letter in shop.all_letters]
        ),
        what="the orders around it, and its dead letter",
    )
    assert shop.worker.exit_code is None
    assert [letter.value for letter in shop.all_letters].count(value) == 1


def write_with_header(pipeline: Pipeline, name: bytes, value: bytes) -> None:
    """Write a record with such a header; the client's Python face cannot, its library can."""

    class Handle(ctypes.Structure):
        _fields_ = (("references", ctypes.c_ssize_t), ("type", ctypes.c_void_p), ("client", ctypes.c_void_p))

    library = ctypes.CDLL(cimpl.__file__)
    producer = confluent_kafka.Producer({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    library.rd_kafka_headers_new.restype = ctypes.c_void_p
    headers = library.rd_kafka_headers_new(ctypes.c_size_t(1))
    whole = ctypes.c_ssize_t(-1)
    library.rd_kafka_header_add(
        ctypes.c_void_p(headers), ctypes.c_char_p(name), whole, ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1)
    )
    topic, partition, body, with_headers, end = (ctypes.c_int(tag) for tag in (1, 3, 4, 10, 0))
    failed = library.rd_kafka_producev(
        ctypes.c_void_p(Handle.from_address(id(producer)).client),
        topic, ctypes.c_char_p(ORDERS_CREATED.within(pipeline.namespace).encode()),
        partition, ctypes.c_int32(0),
        body, ctypes.c_char_p(value), ctypes.c_size_t(len(value)),
        with_headers, ctypes.c_void_p(headers),
        end,
    )  # fmt: skip
    assert failed == 0
    assert producer.flush(20) == 0


def test_order_that_the_database_rejects_costs_no_rewind_and_holds_up_no_other(shop: Shop) -> None:
    """Rejected orders among good ones: one dead letter each, and the batch is not taken from the topic again."""
    with shop.pipeline.administer() as connection:
        connection.exec_driver_sql(
            """
            CREATE FUNCTION inventory.refuse_marked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF 'marked' = ANY(NEW.skus) THEN RAISE EXCEPTION 'refused' USING ERRCODE = '22023'; END IF;
                RETURN NEW;
            END $$
            """
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse_marked BEFORE INSERT ON inventory.decision"
            " FOR EACH ROW EXECUTE FUNCTION inventory.refuse_marked()"
        )
    marked = shop.codec.encode(make_order(lines=[("marked", 1)]))
    good, offsets = [], []
    for _ in range(3):
        good += [shop.order().order_id for _ in range(20)]
        offsets.append(shop.write(marked))
    good.append(shop.order().order_id)
    wait_for(lambda: set(good) <= set(shop.outcomes()), what="the outcomes of the good orders")
    wait_for(lambda: all(shop.letters(offset) for offset in offsets), what="a dead letter of each rejected one")
    letters = [shop.letters(offset) for offset in offsets]
    assert [[letter.header("dlq_error_class") for letter in each] for each in letters] == [["database"]] * 3
    assert '"cause": "poison"' not in shop.worker.output()
    assert shop.worker.exit_code is None


def test_worker_lived_through_all_of_it__and_its_log_holds_no_value(shop: Shop) -> None:
    shop.write(b"\x07 jane.roe@example.org pays with 4111111111111111")
    last = shop.order()
    wait_for(lambda: last.order_id in shop.outcomes(), what="the last outcome")
    assert "record.dead_lettered" in shop.worker.output()
    assert "jane.roe" not in shop.worker.output()
    assert "4111" not in shop.worker.output()
    assert shop.worker.stop() == 0


def test_good_order_whose_row_breaks_an_unnamed_constraint_is_no_dead_letter(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    """An operator who adds a constraint may not think of the worker: it ends and names it, and no order is given up."""
    pipeline = make_pipeline(partitions=1)
    pipeline.set_stock({"tea": 10})
    with pipeline.administer() as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX one_per_verdict ON inventory.decision (verdict)")
    worker = pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    write_orders(pipeline, [make_order(lines=[("tea", 1)]) for _ in range(3)])
    assert worker.wait() == ExitCode.SOFTWARE
    assert "one_per_verdict is violated" in worker.output()
    assert read(pipeline, DEAD_LETTERS) == []

    with pipeline.administer() as connection:
        connection.exec_driver_sql("DROP INDEX inventory.one_per_verdict")
    pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    wait_for(lambda: len(read(pipeline, INVENTORY_RESERVED)) == 3, what="the outcome of each")
    assert read(pipeline, DEAD_LETTERS) == []
