"""Say what a group has lost whose offset its topic no longer has: which records, how many, or none at all."""

from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from onceloop.errors import FatalError

ANSWER_SECONDS = 5.0


def offset_gone(consumer: Consumer, message: Any) -> FatalError:
    """Return what ends a process whose client refuses to read on at an offset; `message` is that refusal."""
    offset = message.offset()
    at = f"{message.topic()}[{message.partition()}]: the committed offset is gone from the topic"
    try:
        first, end = consumer.get_watermark_offsets(
            TopicPartition(message.topic(), message.partition()), ANSWER_SECONDS, cached=False
        )
    except KafkaException:
        return FatalError(f"{at}: {message.error().str()}", cure=UNKNOWN_CURE)
    if offset < first:
        return FatalError(f"{at}: {_lost(offset, first)}", cure=RETENTION_CURE)
    return FatalError(f"{at}: {offset}, but it ends at {end}, so it is shorter than it was", cure=SHORTER_CURE)


RETENTION_CURE = "change nothing before you know what is lost: docs/runbook.md, `Retention overtook a group`"
UNKNOWN_CURE = (
    "change nothing before you know what is lost: docs/runbook.md, `Retention overtook a group` if it was retention,"
    " `A topic was recreated` if that"
)
SHORTER_CURE = (
    "it was recreated, the broker lost its end, or the offset was set by hand: docs/runbook.md, `A topic was recreated`"
)


def _lost(offset: int, first: int) -> str:
    """Return the lost range in words. Commit markers take offsets too, so records are at most so many."""
    return f"up to {first - offset} records, from {offset} to {first - 1}, were deleted before this group read them"
