"""Put a group's offsets somewhere by hand, as `kafka-consumer-groups.sh --reset-offsets` does."""

from contextlib import closing

from confluent_kafka import Consumer, KafkaException, TopicPartition

from audit.terms import Offsets
from common.config import KafkaSettings
from common.topics import Group
from onceloop.errors import ReportedError


class NotPutError(ReportedError):
    """The broker does not take the offsets: the group has members, or the broker does not answer."""


def points(settings: KafkaSettings, offsets: Offsets) -> list[TopicPartition]:
    """Return offsets as the client takes them, topics by their names in the namespace."""
    prefix = f"{settings.namespace}." if settings.namespace else ""
    return [TopicPartition(prefix + at.topic, at.partition, offset) for at, offset in offsets.items()]


def put(settings: KafkaSettings, group: Group, offsets: Offsets) -> None:
    """Commit offsets for a group that has no member. Raises NotPutError."""
    options = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2, **settings.kafka_options}
    with closing(Consumer({**options, "group.id": group.within(settings.namespace)})) as consumer:
        try:
            found = consumer.commit(offsets=points(settings, offsets), asynchronous=False) or []
        except KafkaException as error:
            raise NotPutError(f"{group.name} stays where it is: {error.args[0].str()}") from error
    if refused := [each for each in found if each.error is not None]:
        raise NotPutError(f"{group.name} stays where it is: {refused[0].error}")
