"""A dead letter: the record as it was, and why and where from in headers behind its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.topics import MESSAGE_BYTES_MAX
from onceloop.dead_letter import dead_letter
from onceloop.errors import Undecodable
from onceloop.records import InputRecord, Partition

TOPIC = "blue.orders.created.inventory.dlq"
BYTES = st.none() | st.binary()
HEADERS = st.lists(st.tuples(st.text(), BYTES)).map(tuple)


@given(BYTES, BYTES, HEADERS)
def test_key_value_and_headers_are_kept_to_the_byte(
    key: bytes | None, value: bytes | None, own: tuple[tuple[str, bytes | None], ...]
) -> None:
    record = InputRecord(Partition("blue.orders.created", 3), 41, key, value, lambda: own)
    letter = dead_letter(record, Undecodable("frame", "too short"), topic=TOPIC)
    assert (letter.topic, letter.key, letter.value) == (TOPIC, key, value)
    assert letter.headers[: len(own)] == own


def test_added_headers_say_why_and_where_from() -> None:
    record = InputRecord(Partition("blue.orders.created", 3), 41, b"ada", b"?")
    letter = dead_letter(record, Undecodable("magic", "magic byte 0x3f"), topic=TOPIC)
    assert letter.headers == (
        ("dlq_version", b"1"),
        ("dlq_reason", b"magic byte 0x3f"),
        ("dlq_error_class", b"magic"),
        ("dlq_topic", b"blue.orders.created"),
        ("dlq_partition", b"3"),
        ("dlq_offset", b"41"),
    )


@pytest.mark.parametrize("reason", ["x" * 10_000, "ü" * 10_000, "壺" * 5_000, "x" + "壺" * 5_000, "xx" + "壺" * 5_000])
def test_reason_is_cut_to_what_a_header_may_take__and_stays_text(reason: str) -> None:
    letter = dead_letter(InputRecord(Partition("t", 0), 0, None, None), Undecodable("avro", reason), topic=TOPIC)
    reported = dict(letter.headers)["dlq_reason"]
    assert reported is not None
    assert 4000 < len(reported) <= 4096
    assert reason.startswith(reported.decode())


def test_letter_that_is_read_again_and_refused_again_states_the_last_reason_last() -> None:
    once = dead_letter(InputRecord(Partition("t", 0), 5, None, b"?"), Undecodable("frame", "first"), topic=TOPIC)
    again = InputRecord(Partition(TOPIC, 0), 0, once.key, once.value, lambda: once.headers)
    twice = dead_letter(again, Undecodable("frame", "second"), topic=TOPIC)
    assert dict(twice.headers)["dlq_reason"] == b"second"
    assert ("dlq_reason", b"first") in twice.headers


HEADER = ("trace", b"x" * 1000)


@pytest.mark.parametrize(
    "record",
    [
        InputRecord(Partition("t", 0), 5, None, b"x" * (MESSAGE_BYTES_MAX + 1)),
        InputRecord(Partition("t", 0), 5, b"x" * MESSAGE_BYTES_MAX, b"y"),
        InputRecord(Partition("t", 0), 5, None, None, lambda: (HEADER,) * (MESSAGE_BYTES_MAX // 1000)),
    ],
    ids=["value", "key", "headers"],
)
def test_record_that_only_compression_made_fit_leaves_its_coordinate_and_size(record: InputRecord) -> None:
    letter = dead_letter(record, Undecodable("magic", "magic byte 0x78"), topic=TOPIC)
    assert (letter.key, letter.value) == (None, None)
    headers = dict(letter.headers)
    assert int(headers["dlq_omitted_bytes"] or b"") > MESSAGE_BYTES_MAX
    assert (headers["dlq_offset"], headers["dlq_error_class"]) == (b"5", b"magic")
    assert sum(len(name) + len(value or b"") for name, value in letter.headers) < 10_000


def test_record_of_the_largest_size_is_copied_whole() -> None:
    record = InputRecord(Partition("t", 0), 5, b"k" * 1000, b"v" * (MESSAGE_BYTES_MAX - 1000))
    letter = dead_letter(record, Undecodable("magic", "magic byte 0x76"), topic=TOPIC)
    assert (letter.key, letter.value) == (record.key, record.value)
