"""The same seed asks for the same things in the same order, and a mix holds what its shares say."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import pytest

from audit.readers.avro import UnreadableError, impossible
from audit.testimony import End, Kind
from chaos.load.http import understood
from chaos.load.mix import Mix
from chaos.load.orders import requests
from chaos.load.partitions import home_of
from chaos.load.poison import POISON
from chaos.load.records import PlannedRecord, records
from common.events.orders import OrderCreated
from onceloop.errors import Undecodable
from tests.factories import make_codec, make_order
from tests.unit.audit.test_second_reading import REGISTRY

NOW_MS = 1_800_000_000_000
CODEC = make_codec()
MIX = Mix(seed=42, http_orders=1000, direct_orders=2000)


def planned(mix: Mix = MIX, partitions: int = 8) -> list[PlannedRecord]:
    numbers = itertools.count()
    return list(
        records(
            mix,
            CODEC,
            partitions=partitions,
            new_id=lambda: f"01a207b4-08ca-76ad-bfdf-{next(numbers):012x}",
            now_ms=lambda: NOW_MS,
        )
    )


def share(some: int, of: int) -> float:
    return some / of


def test_the_same_seed_asks_for_the_same__over_http() -> None:
    assert list(requests(MIX, run="r")) == list(requests(MIX, run="r"))
    assert list(requests(MIX, run="r")) != list(requests(replace(MIX, seed=43), run="r"))


def test_the_same_seed_writes_the_same__directly() -> None:
    assert planned() == planned()
    assert planned() != planned(replace(MIX, seed=43))


def test_another_run_of_the_same_seed_has_other_keys_alone() -> None:
    first, second = list(requests(MIX, run="a")), list(requests(MIX, run="b"))

    assert [replace(r, key=None) for r in first] == [replace(r, key=None) for r in second]
    assert {r.key for r in first if r.key} & {r.key for r in second if r.key} == set()


def test_a_mix_over_http_holds_what_its_shares_say() -> None:
    asked = list(requests(MIX, run="r"))
    meetings = Counter(r.meeting for r in asked if r.meeting is not None)
    keys = Counter(r.key for r in asked if r.key)

    assert set(meetings.values()) == {2}
    assert 0.6 < share(len([r for r in asked if r.key]), len(asked)) < 0.8
    assert 0.01 < share(len([r for r in asked if not r.lines]), 1000) < 0.06
    assert 0.02 < share(sum(count == 2 for count in keys.values()), 1000) < 0.1
    by_key = {key: [r for r in asked if r.key == key] for key, count in keys.items() if count == 2}
    assert any(one.body == other.body for one, other in by_key.values())
    assert any(one.body != other.body for one, other in by_key.values())
    assert any("@" in r.user for r in asked)


def test_every_body_that_may_be_served_says_what_the_history_will_say() -> None:
    for request in requests(MIX, run="r"):
        if request.lines:
            body = json.loads(request.body)
            assert body["user_id"] == request.user
            assert [(line["sku"], line["quantity"]) for line in body["lines"]] == list(request.lines)


def test_a_direct_mix_holds_what_its_shares_say() -> None:
    wrote = planned()
    kinds = Counter(record.kind for record in wrote)
    copies = [record for record in wrote if record.kind is Kind.COPY]
    homes = {record.order_id: record for record in wrote if record.kind is Kind.ORDER}

    assert kinds[Kind.ORDER] == 2000
    assert 0.08 < share(kinds[Kind.COPY], 2000) < 0.12
    assert 0.004 < share(kinds[Kind.POISON], 2000) < 0.02
    assert {copy.what for copy in copies} == {"next to itself", "later", "elsewhere"}
    for copy in copies:
        assert copy.value == homes[copy.order_id].value
        assert (copy.partition != homes[copy.order_id].partition) == (copy.what == "elsewhere")
    assert len({record.placed_at_ms for record in wrote}) > 50


def test_a_copy_comes_after_its_order() -> None:
    seen = set()
    for record in planned():
        if record.kind is Kind.ORDER:
            seen.add(record.order_id)
        elif record.kind is Kind.COPY:
            assert record.order_id in seen


def test_popular_skus_are_wanted_most_and_crossed() -> None:
    skus = Counter(sku for request in requests(MIX, run="r") for sku, _ in request.lines)
    pairs = {tuple(sku for sku, _ in r.lines) for r in requests(MIX, run="r")}

    assert skus["sku-000"] > 3 * skus["sku-010"] > 0
    assert {("sku-000", "sku-001"), ("sku-001", "sku-000")} <= pairs


def test_one_partition_takes_all() -> None:
    assert {record.partition for record in planned(partitions=1)} == {0}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_none_to_anybody(name: str) -> None:
    value = POISON[name](CODEC, make_order(order_id="01a207b4-08ca-76ad-bfdf-1bb39da98f32"))

    with pytest.raises(Undecodable):
        CODEC.decode(OrderCreated, value)
    assert unreadable(value)


def unreadable(value: bytes | None) -> bool:
    try:
        return bool(impossible(REGISTRY.decode(value, "OrderCreated")))
    except UnreadableError:
        return True


@pytest.mark.parametrize(
    ("key", "hashed"),
    [  # Kafka's own examples
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_key_s_home_is_where_kafka_puts_it(key: bytes, hashed: int) -> None:
    assert home_of(key, 8) == (hashed & 0x7FFFFFFF) % 8
    assert home_of(key, 1000) == (hashed & 0x7FFFFFFF) % 1000


ACCEPTED = b'{"order_id": "o1", "status": "pending"}'


@pytest.mark.parametrize(
    ("status", "reply", "end"),
    [
        (202, ACCEPTED, End.OK),
        (200, ACCEPTED, End.OK),
        (202, b"nothing", End.INFO),
        (202, b"[]", End.INFO),
        (400, b"", End.FAIL),
        (422, b"", End.FAIL),
        (408, b"", End.INFO),
        (429, b"", End.INFO),
        (500, b"", End.INFO),
        (503, b"", End.INFO),
    ],
)
def test_an_answer_is_believed_only_as_far_as_it_goes(status: int, reply: bytes, end: End) -> None:
    assert understood(status, reply).end is end
