"""Run the status projection: one worker in one slot."""

from contextlib import closing
from functools import partial

from common import metrics
from common.kafka.admin import Admin
from common.kafka.schema_registry import open_codec
from common.postgres.engine import create_engine
from common.topics import ORDER_STATUS
from onceloop import health
from onceloop.kafka.coverage import CoverageWatch
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.looking_back import earliest
from onceloop.kafka.options import admin_options, consumer_options
from onceloop.kafka.topic_watch import TopicWatch
from onceloop.lifecycle import stop_signal
from onceloop.plain import OffsetsWithData
from onceloop.plain import run as run_loop
from order_service.config import ProjectionSettings
from order_service.io.projection import TOPICS, Projection
from order_service.io.status_store import StatusStore


def run(settings: ProjectionSettings) -> None:
    """Project until a signal. Raises FatalError as the loop does."""
    consuming = consumer_options(settings.kafka, group_id=ORDER_STATUS.within(settings.namespace), slot=settings.slot)
    state = health.Health()
    shown = metrics.of_worker("order_projection_")
    with (
        stop_signal() as stop,
        health.serve(state, host=settings.health_host, port=settings.health_port, shown=shown),
        closing(
            GroupConsumer(
                consuming,
                [topic.within(settings.namespace) for topic in TOPICS],
                coverage=CoverageWatch(
                    settings.kafka,
                    group_id=ORDER_STATUS.within(settings.namespace),
                    topics=[topic.within(settings.namespace) for topic in TOPICS],
                ),
            )
        ) as consumer,
    ):
        engine = create_engine(settings, application=f"order-projection-{settings.slot}", pool_size=1)
        topic_ids = Admin(settings).topic_ids(TOPICS)
        store = StatusStore(engine, topic_ids)
        handler = Projection(store, open_codec(settings, TOPICS), namespace=settings.namespace)
        run_loop(
            handler,
            consumer,
            offsets=OffsetsWithData(
                handler, consumer, topic_ids=topic_ids, earliest=partial(earliest, admin_options(settings.kafka))
            ),
            stop=stop,
            health=state,
            watch=TopicWatch(settings.kafka, topic_ids),
        )
