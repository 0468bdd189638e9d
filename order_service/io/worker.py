"""Run the status projection: one worker in one slot."""

from contextlib import closing
from functools import partial

from common import metrics
from common.kafka.admin import Admin
from common.kafka.members import join, member_options
from common.kafka.schema_registry import open_codec
from common.postgres.engine import create_engine
from common.postgres.outage import DATABASE_ERRORS
from common.telemetry import RUNTIME, serving_probes
from common.topics import ORDER_STATUS
from onceloop.health import Health
from onceloop.kafka.looking_back import earliest
from onceloop.kafka.options import admin_options
from onceloop.kafka.topic_watch import TopicWatch
from onceloop.lifecycle import stop_signal
from onceloop.plain import OffsetsWithData
from onceloop.plain import run as run_loop
from order_service.config import ProjectionSettings
from order_service.io.projection import TOPICS, Projection
from order_service.io.status_store import StatusStore


def run(settings: ProjectionSettings) -> None:
    """Project until a signal. Raises FatalError as the loop does."""
    consuming = member_options(settings, ORDER_STATUS, slot=settings.slot)
    state = Health()
    with (
        stop_signal() as stop,
        serving_probes(state, settings, metrics.of_worker("order_projection_")),
        closing(join(consuming, settings, ORDER_STATUS, TOPICS)) as consumer,
    ):
        application = f"order-projection-{settings.slot}"
        engine = create_engine(settings, application=application, pool_size=1, autocommit=True)
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
            surroundings=DATABASE_ERRORS,
            runtime=RUNTIME,
        )
