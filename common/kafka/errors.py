"""Name the kind of a Kafka error. The loop acts on one question alone: may the same call be made again?

Everything that is not retriable ends in a rebuilt producer, alike; the kind is kept for logs and metrics.
Source: librdkafka INTRODUCTION.md, "Transactional Producer"; the measured mapping is a table test.
"""

from enum import StrEnum

from confluent_kafka import KafkaError, KafkaException


class ErrorKind(StrEnum):
    """What librdkafka says of an error."""

    RETRIABLE = "retriable"
    """The same call again, within a deadline; after a commit that timed out nothing else is legal."""
    ABORTABLE = "abortable"
    """The transaction cannot commit."""
    FATAL = "fatal"
    """The producer is of no use; a commit may have worked all the same."""
    UNFLAGGED = "unflagged"
    """No flag at all, such as a wrong state."""


def kafka_error(error: BaseException) -> KafkaError | None:
    """Return librdkafka's error inside an exception, or None if it came from elsewhere."""
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return error.args[0]
    return None


def classify(error: KafkaError) -> ErrorKind:
    """Return the kind; fatal wins over abortable wins over retriable."""
    if error.fatal():
        return ErrorKind.FATAL
    if error.txn_requires_abort():
        return ErrorKind.ABORTABLE
    if error.retriable():
        return ErrorKind.RETRIABLE
    return ErrorKind.UNFLAGGED


def is_fenced(error: KafkaError) -> bool:
    """Return True if a newer epoch took over: another process in our slot, or the broker's transaction time-out."""
    return error.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001 - librdkafka's local codes are spelt so
