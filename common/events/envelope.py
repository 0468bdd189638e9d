"""CloudEvents 1.0, binary mode: what an event is, from where and when, as record headers. Pure.

A replay repeats the stored bytes, so everything here follows from what is stored beside them.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

Headers = tuple[tuple[str, bytes], ...]


def headers(*, event_id: str, event_type: str, source: str, time_ms: int) -> Headers:
    """Return the `ce_` headers. `event_id` is what consumers de-duplicate by; `time_ms`: epoch milliseconds, UTC."""
    return (("ce_id", event_id.encode()), *_common_headers(event_type, source, time_ms))


@lru_cache(maxsize=64)  # all events of a batch share them
def _common_headers(event_type: str, source: str, time_ms: int) -> Headers:
    time = datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", event_type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
        ("content-type", b"application/avro"),
    )


def answering(
    *, event_type: str, source: str, time_ms: int, topic: str, partition: int
) -> Callable[[str, int], Headers]:
    """Return what makes `headers` and `origin_headers` of events that differ in id and origin's offset alone."""
    shared = (*_common_headers(event_type, source, time_ms), *_partition_headers(topic, partition))
    return lambda event_id, offset: (("ce_id", event_id.encode()), *shared, ("origin_offset", b"%d" % offset))


def origin_headers(*, topic: str, partition: int, offset: int) -> Headers:
    """Return the headers that name the record an event answers: its coordinate on the input topic."""
    return (*_partition_headers(topic, partition), ("origin_offset", b"%d" % offset))


@lru_cache(maxsize=1024)
def _partition_headers(topic: str, partition: int) -> Headers:
    return (("origin_topic", topic.encode()), ("origin_partition", b"%d" % partition))
