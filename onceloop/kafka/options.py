"""librdkafka options, each with its reason, and the guard that refuses combinations which break the guarantee.

Users may override what is not a guarantee. Time-outs are in milliseconds, as librdkafka names them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import confluent_kafka

from onceloop.config import DEAD_LETTER_BYTES_MAX, KafkaConfig
from onceloop.errors import ConfigError

Options = dict[str, Any]

REBOOTSTRAP_MS = 10_000
"""A client that reaches no broker at the addresses it has asks the first address again; the default is 5 minutes."""

SWEEP_SECONDS = 15
"""A broker ends a timed-out transaction at its next sweep: by default every 10 s, and some slack."""


def consumer_options(kafka: KafkaConfig, *, group_id: str, slot: int) -> Options:
    """Return the options of a read_committed consumer that is a static member of a classic group.

    Raises ConfigError if overrides break what the loops rely on.
    """
    options: Options = {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": f"{group_id}-{slot}",
        "group.id": group_id,
        "group.instance.id": f"{group_id}-{slot}",  # a restart within the session time-out moves no partition
        "group.protocol": "classic",  # under KIP-848 a killed static member waits out the session before it may return
        "session.timeout.ms": 6000,  # the broker's default minimum: how long a dead worker keeps its partitions
        "heartbeat.interval.ms": 1500,  # part of the time in which others learn of a rebalance
        "max.poll.interval.ms": 60_000,  # the default of 5 minutes makes a long zombie
        "partition.assignment.strategy": "range",  # the assignment is replaced whole, never piecemeal
        "enable.auto.commit": False,  # offsets travel in the transaction, or follow the work
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",  # filters the input, and waits for pending offsets (KIP-447)
        "auto.offset.reset": "error",  # a silent jump loses or repeats records
        "queued.min.messages": 2000,  # a rewind throws the prefetch away: keep it small
        "queued.max.messages.kbytes": 8192,
        "fetch.queue.backoff.ms": 20,
        "fetch.wait.max.ms": 500,  # an empty fetch; a record ends it at once
        "statistics.interval.ms": 1000,  # where the topics end, for the lag
        "reconnect.backoff.max.ms": 1000,  # the default of 10 s spoils a broker's restart
        "metadata.recovery.rebootstrap.trigger.ms": REBOOTSTRAP_MS,
        "socket.keepalive.enable": True,
        **kafka.options,
        **kafka.consumer_options,
    }
    options = _with_numbers(options, kafka)
    _refuse(_consumer_complaints(options, group_id, slot), kafka)
    _refuse(_client_complaints(confluent_kafka.Consumer, options), kafka)
    return options


def transactional_producer_options(kafka: KafkaConfig, *, transactional_id: str) -> Options:
    """Return the options of a slot's transactional producer; the id is stable, so that a restart fences its past.

    Raises ConfigError if overrides break what the loop relies on.
    """
    options: Options = {
        **_producer_options(kafka, client_id=transactional_id),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": 10_000,  # how long readers stall if no process comes back to the slot
        "message.timeout.ms": 8000,  # a record outlives no transaction
        "socket.timeout.ms": 3000,  # bounds the hidden retry inside a commit
        "linger.ms": 0,  # the commit flushes anyway
        "retry.backoff.ms": 5,  # CONCURRENT_TRANSACTIONS is normal just after a commit; this is the wait
        "retry.backoff.max.ms": 50,
        "queue.buffering.max.messages": 100_000,  # at least ten batches: a full queue is a bug
        **kafka.options,
        **kafka.producer_options,
    }
    options = _with_numbers(options, kafka)
    _refuse(_producer_complaints(options, transactional_id), kafka)
    _refuse(_client_complaints(confluent_kafka.Producer, options), kafka)
    return options


RETRY_BACKOFF_MS = 250
"""Before a Produce request is sent again, less or more 20 %: what is answered earlier was sent once."""


def idempotent_producer_options(kafka: KafkaConfig, *, client_id: str = "acked") -> Options:
    """Return the options of a producer that waits for every acknowledgement and is in no transaction."""
    options: Options = {
        **_producer_options(kafka, client_id=client_id),
        "message.timeout.ms": 5000,  # nothing is sent long after the caller's answer was "maybe"
        "socket.timeout.ms": 3000,
        "linger.ms": 1,
        "retry.backoff.ms": RETRY_BACKOFF_MS,
        "topic.metadata.propagation.max.ms": 5000,  # so long a topic that the broker does not know is waited for
        **kafka.options,
        **{key: value for key, value in kafka.producer_options.items() if not key.startswith("transaction")},
    }
    _refuse(_durability_complaints(options), kafka)
    _refuse(_client_complaints(confluent_kafka.Producer, options), kafka)
    return options


def admin_options(kafka: KafkaConfig) -> Options:
    """Return the options of an admin client, or of a consumer that only looks."""
    return {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": "admin",
        "socket.timeout.ms": 5000,
        "reconnect.backoff.max.ms": 1000,
        **kafka.options,
    }


def _producer_options(kafka: KafkaConfig, *, client_id: str) -> Options:
    return {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "message.max.bytes": DEAD_LETTER_BYTES_MAX,  # the default is below what a dead letter may need
        "partitioner": "murmur2_random",  # the Java clients' choice: other languages meet the same key on one partition
        "topic.metadata.refresh.interval.ms": 10_000,  # until then it does not know of partitions that were added
        "reconnect.backoff.max.ms": 1000,
        "metadata.recovery.rebootstrap.trigger.ms": REBOOTSTRAP_MS,
        "socket.keepalive.enable": True,
    }


def _refuse(complaints: Iterable[str], kafka: KafkaConfig) -> None:
    found = list(complaints)
    if found:
        raise ConfigError("\n".join(found), cure=f"take the option out of {kafka.origin}, or choose the value named")


_COMPARED = (
    "heartbeat.interval.ms",
    "session.timeout.ms",
    "max.poll.interval.ms",
    "message.timeout.ms",
    "socket.timeout.ms",
    "transaction.timeout.ms",
    "queue.buffering.max.messages",
)
"""Numbers that the guard sets against each other; librdkafka takes them as text too."""


def _with_numbers(options: Options, kafka: KafkaConfig) -> Options:
    compared = {name: options[name] for name in _COMPARED if name in options}
    unfit = (f"{name}={value} is not an integer" for name, value in compared.items() if not str(value).isdecimal())
    _refuse(unfit, kafka)
    return {**options, **{name: int(value) for name, value in compared.items()}}


def _client_complaints(client: type, options: Options) -> Iterator[str]:
    """Build a client that knows no broker and so connects to none: librdkafka itself names what it does not take."""
    try:
        built = client({**options, "bootstrap.servers": None, "log_level": 0})
    except (confluent_kafka.KafkaException, TypeError, ValueError) as error:
        yield f"librdkafka refuses an option: {error}"
    else:
        if isinstance(built, confluent_kafka.Consumer):
            built.close()


def _must(options: Mapping[str, Any], name: str, wanted: str, why: str) -> Iterator[str]:
    value = options.get(name)
    if str(value).lower() != wanted.lower():
        yield f"{name}={value} breaks exactly-once: it must be {wanted}, because {why}"


def _consumer_complaints(options: Options, group_id: str, slot: int) -> Iterator[str]:
    yield from _must(options, "isolation.level", "read_committed", "aborted records must not be seen as facts")
    yield from _must(options, "enable.auto.commit", "false", "offsets travel with the work, not with a timer")
    yield from _must(options, "enable.auto.offset.store", "false", "only offsets of finished batches may be stored")
    yield from _must(options, "auto.offset.reset", "error", "a silent jump loses or repeats records")
    yield from _must(options, "group.protocol", "classic", "a killed static member must be able to return at once")
    yield from _must(options, "group.id", group_id, "provisioning gave exactly this group its first offsets")
    yield from _must(options, "partition.assignment.strategy", "range", "the loop replaces its assignment whole")
    yield from _must(options, "group.instance.id", f"{group_id}-{slot}", "a twin in the same slot is fenced by it")
    if options["heartbeat.interval.ms"] * 3 > options["session.timeout.ms"]:
        yield (
            f"heartbeat.interval.ms={options['heartbeat.interval.ms']} with session.timeout.ms="
            f"{options['session.timeout.ms']}: two lost heartbeats would end a live member; a third of it at most"
        )
    if options["session.timeout.ms"] > options["max.poll.interval.ms"]:
        yield (
            f"max.poll.interval.ms={options['max.poll.interval.ms']} is below session.timeout.ms="
            f"{options['session.timeout.ms']}: a batch would end the membership before a crash does"
        )


def _durability_complaints(options: Options) -> Iterator[str]:
    if str(options["acks"]) not in {"all", "-1"}:
        yield f"acks={options['acks']} breaks exactly-once: it must be all, because one broker may lose what it took"
    yield from _must(options, "enable.idempotence", "true", "a hidden retry must not write twice")


def _producer_complaints(options: Options, transactional_id: str) -> Iterator[str]:
    yield from _durability_complaints(options)
    yield from _must(options, "transactional.id", transactional_id, "a restart must fence its own past")
    transaction = options["transaction.timeout.ms"]
    if not 0 < options["message.timeout.ms"] <= transaction:  # 0 is librdkafka's word for never
        yield (
            f"message.timeout.ms={options['message.timeout.ms']} with transaction.timeout.ms={transaction}: "
            "a record would outlive its transaction; above 0 and that much at most"
        )
    if options["socket.timeout.ms"] * 2 > transaction:
        yield (
            f"socket.timeout.ms={options['socket.timeout.ms']} with transaction.timeout.ms={transaction}: "
            "one hidden retry must fit into a transaction; half of it at most"
        )
    if options["queue.buffering.max.messages"] < 10_000:  # noqa: PLR2004 - ten of the largest batches
        yield f"queue.buffering.max.messages={options['queue.buffering.max.messages']}: ten batches need 10000 at least"
