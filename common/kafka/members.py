"""A worker's place in its group, by the names of the table of topics."""

from collections.abc import Callable, Iterable
from functools import partial

from common.config import KafkaSettings
from common.telemetry import RUNTIME
from common.topics import Group, Topic, dead_letter_topic
from onceloop.kafka.coverage import CoverageWatch
from onceloop.kafka.first_offsets import Untouched, store_knows_nothing
from onceloop.kafka.group_consumer import GATHER_SECONDS, GroupConsumer
from onceloop.kafka.input_log import InputLog
from onceloop.kafka.options import Options, consumer_options, transactional_producer_options
from onceloop.kafka.transactional_producer import TransactionalProducer


def member_options(settings: KafkaSettings, group: Group, *, slot: int) -> Options:
    """Return the options of the group's static member in a slot. Raises ConfigError; nothing connects."""
    return consumer_options(settings.kafka, group_id=group.within(settings.namespace), slot=slot)


def writer_options(settings: KafkaSettings, group: Group, *, slot: int) -> Options:
    """Return the options of the transactional producer in a slot. Raises ConfigError; nothing connects."""
    transactional_id = f"{group.within(settings.namespace)}-{slot}"
    return transactional_producer_options(settings.kafka, transactional_id=transactional_id)


def join(
    options: Options,
    settings: KafkaSettings,
    group: Group,
    topics: Iterable[Topic],
    *,
    untouched: Untouched = store_knows_nothing,
    gather_seconds: float = GATHER_SECONDS,
) -> GroupConsumer:
    """Return a member of the group that reads these topics, and sees partitions of them that no member reads."""
    names = [topic.within(settings.namespace) for topic in topics]
    return GroupConsumer(
        options,
        names,
        service=group.name,
        topic_prefix=f"{settings.namespace}." if settings.namespace else "",
        coverage=CoverageWatch(settings.kafka, group_id=group.within(settings.namespace), topics=names),
        untouched=untouched,
        gather_seconds=gather_seconds,
        runtime=RUNTIME,
    )


def building_producers(options: Options, group: Group) -> Callable[[], TransactionalProducer]:
    """Return what builds one of the slot's transactional producers after another."""
    return partial(TransactionalProducer, options, service=group.name, runtime=RUNTIME)


def input_log(settings: KafkaSettings, topic: Topic, group: Group) -> InputLog:
    """Return the topic as the group reads it, to be looked at from outside."""
    return InputLog(
        settings.kafka,
        topic=topic.within(settings.namespace),
        group_id=group.within(settings.namespace),
        dead_letters=dead_letter_topic(topic, group).within(settings.namespace),
    )
