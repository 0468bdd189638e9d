"""Name the kind of a Kafka error. The loop acts on one question alone: may the same call be made again?

Everything that is not retriable ends in a rebuilt producer, alike; the kind is kept for logs and metrics.
Source: librdkafka INTRODUCTION.md, "Transactional Producer"; the measured mapping is a table test.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType

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


def is_about_credentials(error: KafkaError) -> bool:
    """Return True if a broker and this client do not come to trust each other: a password, a certificate."""
    return error.code() in {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001 - librdkafka's local codes are spelt so


def is_fenced(error: KafkaError) -> bool:
    """Return True if a newer epoch took over: another process in our slot, or the broker's transaction time-out."""
    return error.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001 - librdkafka's local codes are spelt so


class Refusal(Enum):
    """Why a broker, or the client in front of it, does not take a record. The value is shown to users."""

    CLOCK = "the clocks of the broker and of this service differ by too much"
    FORBIDDEN = "this service may not write to its topic"
    NO_TOPIC = "the broker has no such topic"
    TOO_LARGE = "it is larger than the broker accepts"
    INVALID = "it breaks a rule of the broker"
    CROWDED = "too many records wait for the broker already"
    CLIENT = "the Kafka client refuses it"

    @property
    def meets_all(self) -> bool:
        """Return True if any other record would be refused as well, until a person mends something."""
        return self in {Refusal.CLOCK, Refusal.FORBIDDEN, Refusal.NO_TOPIC}

    @property
    def is_local(self) -> bool:
        """Return True if the client refused it before any broker saw it: another process may have sent the same."""
        return self in {Refusal.CROWDED, Refusal.CLIENT}


REFUSALS: Mapping[int, Refusal] = MappingProxyType(
    {
        KafkaError.INVALID_TIMESTAMP: Refusal.CLOCK,
        KafkaError.TOPIC_AUTHORIZATION_FAILED: Refusal.FORBIDDEN,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED: Refusal.FORBIDDEN,
        KafkaError.TOPIC_EXCEPTION: Refusal.NO_TOPIC,
        KafkaError.MSG_SIZE_TOO_LARGE: Refusal.TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE: Refusal.TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE: Refusal.TOO_LARGE,
        KafkaError.INVALID_RECORD: Refusal.INVALID,
        KafkaError._INVALID_DIFFERENT_RECORD: Refusal.INVALID,  # noqa: SLF001 - librdkafka's local codes are spelt so
        KafkaError.POLICY_VIOLATION: Refusal.INVALID,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE: Refusal.INVALID,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT: Refusal.INVALID,
        KafkaError.INVALID_REQUIRED_ACKS: Refusal.INVALID,
    }
)
"""What a broker answers to a Produce request before it appends anything, and librdkafka does not try again.

All others may follow an append (REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND, NOT_LEADER_OR_FOLLOWER, a storage
error, UNKNOWN_TOPIC_OR_PART of a partition that was deleted meanwhile), or do not say.
"""
_WHEN_HANDED_OVER: Mapping[int, Refusal] = MappingProxyType(
    {
        **REFUSALS,
        KafkaError._UNKNOWN_TOPIC: Refusal.NO_TOPIC,  # noqa: SLF001 - as above
        KafkaError._UNKNOWN_PARTITION: Refusal.NO_TOPIC,  # noqa: SLF001 - as above
        KafkaError.UNKNOWN_TOPIC_OR_PART: Refusal.NO_TOPIC,
        KafkaError._QUEUE_FULL: Refusal.CROWDED,  # noqa: SLF001 - as above
    }
)


def refusal_at_once(error: BaseException) -> Refusal:
    """Return why the client did not even queue a record, from what its `produce` raised."""
    if isinstance(error, BufferError):
        return Refusal.CROWDED
    cause = kafka_error(error)
    return Refusal.CLIENT if cause is None else _WHEN_HANDED_OVER.get(cause.code(), Refusal.CLIENT)


def refusal_by_broker(error: KafkaError, *, first_attempt: bool) -> Refusal | None:
    """Return why a broker did not write a record, or None if it may have been written.

    A refusal of a later attempt says nothing of an earlier one whose answer was lost: brokers look at size, time and
    rights before they look for a duplicate, and any of these may have changed in between.
    """
    return REFUSALS.get(error.code()) if first_attempt and not error.fatal() else None
