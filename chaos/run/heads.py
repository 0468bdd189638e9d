"""Take the heads of topics away, as retention does: offsets below some point are gone, and no group is asked."""

from collections.abc import Sequence

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from audit.terms import Offsets, Spot
from chaos.run.groups import points, put
from common.config import KafkaSettings
from common.topics import Topic
from onceloop.errors import ReportedError

FILLER = b"of the days before the first order"
FILLER_MIN = 40
FILLER_STEP = 3
"""So many more on each further partition: no two of a topic begin at the same offset."""
CALL_SECONDS = 20.0


class HeadError(ReportedError):
    """The broker did not take the head away."""


def age(settings: KafkaSettings, topics: Sequence[Topic]) -> Offsets:
    """Give every partition of these empty topics a past that retention has taken; return where each begins now.

    What stood there is no order and is gone before any group reads; the groups have it behind them.

    Raises HeadError, NotPutError.
    """
    heads = {
        Spot(topic.name, number): FILLER_MIN + FILLER_STEP * number
        for topic in topics
        for number in range(topic.partitions)
    }
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "client.id": "filler",
            "log_level": 2,
            "acks": "all",
            "enable.idempotence": True,
            **settings.kafka_options,
        }
    )
    for each in points(settings, heads):
        for _ in range(each.offset):
            producer.produce(each.topic, FILLER, partition=each.partition)
    if left := producer.flush(CALL_SECONDS):
        raise HeadError(f"{left} records of the past were not taken", cure="look at the broker's log")
    for group in {group for topic in topics for group in topic.readers}:
        read = [topic.name for topic in topics if group in topic.readers]
        put(settings, group, {spot: offset for spot, offset in heads.items() if spot.topic in read})
    trim(settings, heads)
    return heads


def trim(settings: KafkaSettings, heads: Offsets) -> None:
    """Delete the records below these offsets, as retention would. Raises HeadError."""
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2, **settings.kafka_options})
    asked = points(settings, heads)
    try:
        answers = client.delete_records(asked, request_timeout=CALL_SECONDS, operation_timeout=CALL_SECONDS)
        left = {(at.topic, at.partition): answer.result(CALL_SECONDS).low_watermark for at, answer in answers.items()}
    except KafkaException as error:
        raise HeadError(f"heads stay where they are: {error.args[0].str()}") from error
    short = [at for at in asked if left[at.topic, at.partition] < at.offset]
    if short:
        raise HeadError(f"{short[0].topic}[{short[0].partition}] still begins below {short[0].offset}")
