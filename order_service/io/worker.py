"""Run the status projection: one worker in one slot."""

from contextlib import closing

from common import health, metrics
from common.kafka.consumer import GroupConsumer
from common.kafka.consumer_loop import OffsetsWithData
from common.kafka.consumer_loop import run as run_loop
from common.kafka.options import consumer_options
from common.kafka.schema_registry import open_codec
from common.lifecycle import stop_signal
from common.postgres.engine import create_engine
from common.topics import ORDER_STATUS
from order_service.config import ProjectionSettings
from order_service.io.projection import TOPICS, Projection
from order_service.io.status_store import StatusStore


def run(settings: ProjectionSettings) -> None:
    """Project until a signal. Raises FatalError as the loop does."""
    consuming = consumer_options(settings, group=ORDER_STATUS, slot=settings.slot)
    state = health.Health()
    shown = metrics.of_worker("order_projection_")
    with (
        stop_signal() as stop,
        health.serve(state, host=settings.health_host, port=settings.health_port, shown=shown),
        closing(GroupConsumer(consuming, [topic.within(settings.namespace) for topic in TOPICS])) as consumer,
    ):
        engine = create_engine(settings, application=f"order-projection-{settings.slot}", pool_size=1)
        handler = Projection(StatusStore(engine), open_codec(settings, TOPICS), namespace=settings.namespace)
        run_loop(handler, consumer, offsets=OffsetsWithData(handler, consumer), stop=stop, health=state)
