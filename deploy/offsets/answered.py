"""Read how far the input is answered, off the headers of events and dead letters: read_committed, all of it.

All of it, since nothing orders what several workers and earlier replays have written; only the headers are looked at.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from onceloop.errors import FatalError
from onceloop.records import Partition

CHUNK_RECORDS = 2000
SILENCE_SECONDS = 20.0
"""After this time without a record the broker counts as absent."""
_POLL_SECONDS = 1.0

Report = Callable[[int, int], None]
"""Given the offsets read so far and those to read in all."""


def answered(
    options: Mapping[str, Any],
    spans: Mapping[Partition, tuple[int, int]],
    *,
    prefix: str,
    origin: str,
    report: Report,
) -> dict[int, int]:
    """Return input partition -> the offset behind the last record of `origin` that these spans answer.

    `spans`: partition -> first and stable offset; `prefix`: of the headers that name the origin (`origin_`, `dlq_`).
    Raises FatalError if the broker hands nothing out any more.
    """
    reached = {partition: first for partition, (first, end) in spans.items() if end > first}
    total = sum(spans[at][1] - first for at, first in reached.items())
    highest: dict[int, int] = {}
    silent_since = time.monotonic()
    with closing(_reader(options)) as consumer:
        consumer.assign([TopicPartition(*at, first) for at, first in reached.items()])
        while left := [at for at, offset in reached.items() if offset < spans[at][1]]:
            messages = consumer.consume(CHUNK_RECORDS, _POLL_SECONDS)
            if messages:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > SILENCE_SECONDS:
                raise FatalError(
                    f"{', '.join(sorted({at.topic for at in left}))} cannot be read to the end",
                    cure="look at the broker's log, then run this again",
                )
            for message in messages:
                _note(message, reached, highest, prefix=prefix, origin=origin)
            report(sum(min(offset, spans[at][1]) - spans[at][0] for at, offset in reached.items()), total)
    return highest


def _reader(options: Mapping[str, Any]) -> Consumer:
    return Consumer(
        {
            **options,
            "group.id": "offsets-repair",  # the client wants one; nothing is ever stored under it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # retention may take the first away under us; they are not missed
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 32_768,
        }
    )


def _note(
    message: Message, reached: dict[Partition, int], highest: dict[int, int], *, prefix: str, origin: str
) -> None:
    partition, offset = Partition(str(message.topic()), message.partition() or 0), message.offset() or 0
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public name of librdkafka
        raise FatalError(f"{partition.topic}[{partition.number}] cannot be read: {error.str()}")
    reached[partition] = max(reached[partition], offset if error is not None else offset + 1)
    if error is None:
        found: dict[str, Any] = dict(message.headers() or ())
        if found.get(f"{prefix}topic") == origin.encode():
            number, answers = (int(str(found[f"{prefix}{name}"], "ascii")) for name in ("partition", "offset"))
            highest[number] = max(highest.get(number, 0), answers + 1)
