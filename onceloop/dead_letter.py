"""Make the dead letter of a record that will never become an event. Pure.

The copy keeps key, value and headers to the byte; added headers say why and where it comes from, so that it can be
read, mended and sent again. A record that fits on its topic only because its writer compressed it might not fit here:
its dead letter has the added headers alone, or it would stop its partition for good.
"""

from onceloop.config import MESSAGE_BYTES_MAX
from onceloop.errors import Undecodable
from onceloop.records import Headers, InputRecord, OutputRecord, Partition

VERSION = b"1"
REASON_BYTES_MAX = 4096


def dead_letter(record: InputRecord, cause: Undecodable, *, topic: str) -> OutputRecord:
    """Return the copy for `topic`, a dead letter topic's name on the cluster."""
    headers = record.headers()
    size = _size(record, headers)
    whole = size <= MESSAGE_BYTES_MAX
    return OutputRecord(
        topic=topic,
        key=record.key if whole else None,
        value=record.value if whole else None,
        headers=(
            *(headers if whole else (("dlq_omitted_bytes", str(size).encode()),)),
            ("dlq_version", VERSION),
            ("dlq_reason", cause.reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore").encode()),
            ("dlq_error_class", cause.error_class.encode()),
            ("dlq_topic", record.partition.topic.encode()),
            ("dlq_partition", str(record.partition.number).encode()),
            ("dlq_offset", str(record.offset).encode()),
        ),
        is_dead_letter=True,
    )


def source_of(headers: Headers) -> tuple[Partition, int] | None:
    """Return the coordinate of the record that a dead letter is the copy of, or None if its headers name none."""
    named = dict(headers)  # ours come last: the record's own may have the same names
    topic, number, offset = (named.get(name) or b"" for name in ("dlq_topic", "dlq_partition", "dlq_offset"))
    if not (topic and number.isdigit() and offset.isdigit()):
        return None
    return Partition(topic.decode(errors="replace"), int(number)), int(offset)


def _size(record: InputRecord, headers: Headers) -> int:
    """Return how many bytes the record brings along."""
    parts = [record.key, record.value, *(part for name, value in headers for part in (name.encode(), value))]
    return sum(len(part) for part in parts if part is not None)
