"""What librdkafka makes of a broker's refusal. The table is the one measured in exactly-once.md, section 4.

Flags decide what the product may do: retriable (the same call again), abortable, fatal (the producer is of no use).
"""

from confluent_kafka import KafkaError, KafkaException

from chaos.model.broker import Refused

_ABORT_ONLY_IN = frozenset({"Produce", "TxnOffsetCommit"})
_ALWAYS_FATAL = frozenset({KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER})


def timed_out(api: str) -> KafkaException:
    """Return what a call raises whose time is over."""
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{api}: no answer", retriable=True))  # noqa: SLF001 - librdkafka's local codes are spelt so


def wrong_state(call: str) -> KafkaException:
    """Return what a call raises that is out of order."""
    return KafkaException(KafkaError(KafkaError._STATE, f"{call}: wrong state"))  # noqa: SLF001 - librdkafka's local codes are spelt so


def fenced_instance() -> KafkaError:
    """Return the error of a consumer whose slot another process took."""
    return KafkaError(KafkaError.FENCED_INSTANCE_ID, "another process took this slot", fatal=True)


def refusal(api: str, refused: Refused) -> KafkaException:
    """Return what a producer's call raises for the broker's answer."""
    if refused.code == KafkaError.INVALID_PRODUCER_EPOCH:
        return KafkaException(KafkaError(KafkaError._FENCED, f"{api}: fenced", fatal=True))  # noqa: SLF001 - librdkafka's local codes are spelt so
    fatal = refused.code in _ALWAYS_FATAL or (
        refused.code == KafkaError.INVALID_TXN_STATE and api not in _ABORT_ONLY_IN
    )
    return KafkaException(KafkaError(refused.code, f"{api}: {refused}", fatal=fatal, txn_requires_abort=not fatal))
