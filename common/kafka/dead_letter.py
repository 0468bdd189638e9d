"""Make the dead letter of a record that will never become an event. Pure.

The copy keeps key, value and headers to the byte; added headers say why and whence, so that it can be read, mended
and sent again.
"""

from common.errors import Undecodable
from common.kafka.records import InputRecord, OutputRecord

VERSION = b"1"
REASON_BYTES_MAX = 4096


def dead_letter(record: InputRecord, cause: Undecodable, *, topic: str) -> OutputRecord:
    """Return the copy for `topic`, a dead letter topic's name on the cluster."""
    return OutputRecord(
        topic=topic,
        key=record.key,
        value=record.value,
        headers=(
            *record.headers,
            ("dlq_version", VERSION),
            ("dlq_reason", cause.reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore").encode()),
            ("dlq_error_class", cause.error_class.encode()),
            ("dlq_topic", record.partition.topic.encode()),
            ("dlq_partition", str(record.partition.number).encode()),
            ("dlq_offset", str(record.offset).encode()),
        ),
    )
