"""Record headers: CloudEvents in binary mode, and the coordinate that an event answers."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events.envelope import answering, headers, origin_headers


def test_headers_follow_cloudevents_binary_mode() -> None:
    found = headers(event_id="e-1", event_type="inventory.reserved", source="/inventory", time_ms=1_800_000_000_123)
    assert len(found) == len(dict(found))
    assert dict(found) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e-1",
        "ce_type": b"inventory.reserved",
        "ce_source": b"/inventory",
        "ce_time": b"2027-01-15T08:00:00.123+00:00",
        "content-type": b"application/avro",
    }


YEAR_2100_MS = 4_102_444_800_000


@given(st.integers(0, YEAR_2100_MS))
def test_time_keeps_its_millisecond(time_ms: int) -> None:
    stamped = dict(headers(event_id="e", event_type="t", source="/s", time_ms=time_ms))["ce_time"].decode()
    read = datetime.fromisoformat(stamped)
    assert read.tzinfo == UTC
    assert round(read.timestamp() * 1000) == time_ms


def test_events_of_one_batch_differ_in_their_id_alone() -> None:
    one, other = (
        headers(event_id=name, event_type="t", source="/s", time_ms=1_800_000_000_123) for name in ("e-1", "e-2")
    )
    assert set(one) ^ set(other) == {("ce_id", b"e-1"), ("ce_id", b"e-2")}


@pytest.mark.parametrize("offset", [0, 7, 2**63 - 1])
def test_origin_names_topic_partition_and_offset_in_digits(offset: int) -> None:
    assert origin_headers(topic="blue.orders.created", partition=7, offset=offset) == (
        ("origin_topic", b"blue.orders.created"),
        ("origin_partition", b"7"),
        ("origin_offset", str(offset).encode()),
    )


def test_headers_of_an_answer_are_those_of_its_event_and_its_origin() -> None:
    time_ms = 1_800_000_000_123
    make = answering(event_type="t", source="/s", time_ms=time_ms, topic="orders.created", partition=7)
    assert make("e-1", 42) == (
        *headers(event_id="e-1", event_type="t", source="/s", time_ms=time_ms),
        *origin_headers(topic="orders.created", partition=7, offset=42),
    )
