"""`python -m order_service api` serves HTTP, `python -m order_service projection` keeps the status. Wiring only."""

import sys
from contextlib import closing

from common import health, log, metrics
from common.config import load
from common.entry import run_process
from common.errors import ExitCode
from common.kafka.consumer import GroupConsumer
from common.kafka.consumer_loop import OffsetsWithData, run
from common.kafka.options import consumer_options
from common.kafka.schema_registry import open_codec
from common.lifecycle import stop_signal
from common.postgres.engine import create_engine
from common.topics import ORDER_STATUS
from order_service.config import ApiSettings, ProjectionSettings
from order_service.io import server
from order_service.io.projection import TOPICS, Projection
from order_service.io.status_store import StatusStore

USAGE = "usage: python -m order_service api | projection\n"


def api() -> None:
    """Serve orders over HTTP until a signal."""
    settings = load(ApiSettings)
    log.configure(settings, service="order-api")
    server.run(settings)


def projection() -> None:
    """Keep the status of orders until a signal."""
    settings = load(ProjectionSettings)
    log.configure(settings, service="order-projection", slot=settings.slot)
    consuming = consumer_options(settings, group=ORDER_STATUS, slot=settings.slot)
    state = health.Health()
    with (
        stop_signal() as stop,
        health.serve(
            state, host=settings.health_host, port=settings.health_port, shown=metrics.of_worker("order_projection_")
        ),
        closing(GroupConsumer(consuming, [topic.within(settings.namespace) for topic in TOPICS])) as consumer,
    ):
        engine = create_engine(settings, application=f"order-projection-{settings.slot}", pool_size=1)
        handler = Projection(StatusStore(engine), open_codec(settings, TOPICS), namespace=settings.namespace)
        run(handler, consumer, offsets=OffsetsWithData(handler, consumer), stop=stop, health=state)


if __name__ == "__main__":
    commands = {"api": api, "projection": projection}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:  # noqa: PLR2004 - the program and one word
        sys.stderr.write(USAGE)
        sys.exit(ExitCode.USAGE)
    run_process(commands[sys.argv[1]])
