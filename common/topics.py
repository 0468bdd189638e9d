"""THE table of topics: names, keys, values, partitions, retention, who writes and who reads.

Provisioning creates from it, services take their names from it, tests compare with it. A namespace puts several
pipelines on one cluster: it goes in front of every topic, consumer group and transactional id.
"""

from dataclasses import dataclass

from onceloop import config

ORDER_PARTITIONS = 8
DAY_MS = 24 * 60 * 60 * 1000
MESSAGE_BYTES_MAX = config.MESSAGE_BYTES_MAX
"""What a topic takes, after compression: the broker's default."""


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group. `dead_letters`: whether what it cannot read goes to a topic of its own."""

    name: str
    dead_letters: bool = True

    def within(self, namespace: str) -> str:
        """Return the group id on the cluster."""
        return _within(namespace, self.name)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `value` names the event type whose schema is the subject `<name>-value`; None: bytes as they came."""

    name: str
    key: str
    value: str | None
    partitions: int
    retention_ms: int
    writers: tuple[str, ...]
    readers: tuple[Group, ...] = ()
    dead_letters_of: Group | None = None
    message_bytes_max: int = MESSAGE_BYTES_MAX

    def within(self, namespace: str) -> str:
        """Return the topic's name on the cluster."""
        return _within(namespace, self.name)

    @property
    def subject(self) -> str:
        """Return the registry's subject for the value (TopicNameStrategy; one for all namespaces)."""
        return f"{self.name}-value"


def _within(namespace: str, name: str) -> str:
    return f"{namespace}.{name}" if namespace else name


def dead_letter_topic(source: Topic, group: Group) -> Topic:
    """Return the topic that takes what `group` cannot read from `source`; room for 64 KiB of added headers."""
    return Topic(
        name=f"{source.name}.{group.name}.dlq",
        key="as it came",
        value=None,
        partitions=1,
        retention_ms=90 * DAY_MS,
        writers=(group.name,),
        dead_letters_of=group,
        message_bytes_max=config.DEAD_LETTER_BYTES_MAX,
    )


INVENTORY = Group("inventory")
NOTIFICATION = Group("notification")
ORDER_STATUS = Group("order-status", dead_letters=False)
METRICS = Group("metrics")
METRICS_TOTALS = Group("metrics-totals")
CONNECT = Group("connect")
"""The workers of Kafka Connect; the topics in which they keep their connectors begin like it."""

ORDERS_CREATED = Topic(
    name="orders.created",
    key="user_id",
    value="OrderCreated",
    partitions=ORDER_PARTITIONS,
    retention_ms=30 * DAY_MS,
    writers=("order",),
    readers=(INVENTORY, ORDER_STATUS),
)
INVENTORY_RESERVED = Topic(
    name="inventory.reserved",
    key="user_id",
    value="InventoryReserved",
    partitions=ORDER_PARTITIONS,
    retention_ms=30 * DAY_MS,
    writers=("inventory",),
    readers=(NOTIFICATION, ORDER_STATUS, METRICS),
)
INVENTORY_FAILED = Topic(
    name="inventory.failed",
    key="user_id",
    value="InventoryFailed",
    partitions=ORDER_PARTITIONS,
    retention_ms=30 * DAY_MS,
    writers=("inventory",),
    readers=(NOTIFICATION, ORDER_STATUS, METRICS),
)
NOTIFICATION_SENT = Topic(
    name="notification.sent",
    key="user_id",
    value="NotificationSent",
    partitions=ORDER_PARTITIONS,
    retention_ms=30 * DAY_MS,
    writers=("notification",),
    readers=(ORDER_STATUS,),
)
METRICS_PARTIALS = Topic(
    name="metrics.partials",
    key="topic/partition/minute",
    value="VolumePartial",
    partitions=1,
    retention_ms=60 * DAY_MS,  # above the longest time for which a minute can be kept open for late orders
    writers=("metrics",),
    readers=(METRICS_TOTALS,),
)
MINUTE_VOLUMES = Topic(
    name="metrics",
    key="minute",
    value="MinuteVolume",
    partitions=1,  # a record a minute; the revisions of a minute stay in order
    retention_ms=365 * DAY_MS,
    writers=("metrics",),
)

EVENT_TOPICS = (
    ORDERS_CREATED,
    INVENTORY_RESERVED,
    INVENTORY_FAILED,
    NOTIFICATION_SENT,
    METRICS_PARTIALS,
    MINUTE_VOLUMES,
)
KEYED_BY_USER = tuple(topic for topic in EVENT_TOPICS if topic.key == "user_id")
"""These have as many partitions as each other, and may be given more (docs/adr/0037)."""
GROUPS = tuple(dict.fromkeys(group for topic in EVENT_TOPICS for group in topic.readers))
DEAD_LETTER_TOPICS = tuple(
    dead_letter_topic(topic, group)
    for group in GROUPS
    for topic in EVENT_TOPICS
    if group in topic.readers and group.dead_letters
)
ALL_TOPICS = EVENT_TOPICS + DEAD_LETTER_TOPICS


@dataclass(frozen=True, slots=True)
class Sink:
    """One connector of Kafka Connect: it copies a topic into a store, and is named like its group.

    Its group and dead letters belong to Connect and exist only where there are workers; so they are no part of
    `readers` and `ALL_TOPICS`.
    """

    store: str
    group: Group
    source: Topic

    @property
    def dead_letters(self) -> Topic:
        """Return the topic that takes the records which Connect cannot read."""
        return dead_letter_topic(self.source, self.group)


SINKS = (
    Sink("postgres", Group("postgres-reserved"), INVENTORY_RESERVED),
    Sink("postgres", Group("postgres-failed"), INVENTORY_FAILED),
    Sink("postgres", Group("postgres-volume"), MINUTE_VOLUMES),
    Sink("mongo", Group("mongo-reserved"), INVENTORY_RESERVED),
    Sink("mongo", Group("mongo-failed"), INVENTORY_FAILED),
)
