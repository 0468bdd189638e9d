"""`python -m inventory_service`: one worker in one slot. Wiring only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from common import log, metrics
from common.config import load
from common.entry import run_process
from common.kafka.admin import Admin
from common.kafka.schema_registry import open_codec
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED
from inventory_service.config import InventorySettings
from inventory_service.io import start_store
from inventory_service.io.doubtful_starts import StartGuard
from inventory_service.io.step import InventoryStep
from onceloop import health
from onceloop.errors import ReportedError
from onceloop.kafka.coverage import CoverageWatch
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.input_log import InputLog
from onceloop.kafka.options import consumer_options, transactional_producer_options
from onceloop.kafka.topic_watch import TopicWatch, recreated
from onceloop.kafka.transactional_producer import TransactionalProducer
from onceloop.lifecycle import stop_signal
from onceloop.postgres.connection import HotConnection, hot_connection
from onceloop.postgres.retry import rerun
from onceloop.transactional import run


def main() -> None:
    """Read settings, open what is needed, work until a signal."""
    settings = load(InventorySettings)
    log.configure(settings, service="inventory", slot=settings.slot)
    consuming = consumer_options(settings.kafka, group_id=INVENTORY.within(settings.namespace), slot=settings.slot)
    producing = transactional_producer_options(
        settings.kafka, transactional_id=f"{Group('inventory').within(settings.namespace)}-{settings.slot}"
    )
    state = health.Health()
    with (
        stop_signal() as stop,
        health.serve(
            state, host=settings.health_host, port=settings.health_port, shown=metrics.of_worker("inventory_")
        ),
        hot_connection(
            settings.postgres_url, application=f"inventory-{settings.slot}", password=settings.password
        ) as connection,
    ):
        codec = open_codec(settings, (ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED))
        topic_ids = refuse_another_topic(settings, connection)
        step = InventoryStep(
            connection=connection,
            codec=codec,
            namespace=settings.namespace,
            batch_records_max=settings.batch_records_max,
            input_log=InputLog(
                settings.kafka,
                topic=ORDERS_CREATED.within(settings.namespace),
                dead_letters=dead_letter_topic(ORDERS_CREATED, INVENTORY).within(settings.namespace),
                group_id=INVENTORY.within(settings.namespace),
            ),
        )
        with counting_orderly_ends(step.starts):
            run(
                step,
                consumer=GroupConsumer(
                    consuming,
                    [ORDERS_CREATED.within(settings.namespace)],
                    coverage=CoverageWatch(
                        settings.kafka,
                        group_id=INVENTORY.within(settings.namespace),
                        topics=[topic.within(settings.namespace) for topic in (ORDERS_CREATED,)],
                    ),
                    untouched=step.starts.untouched,
                ),
                build_producer=partial(TransactionalProducer, producing, service="inventory"),
                stop=stop,
                health=state,
                service="inventory",
                watch=TopicWatch(settings.kafka, topic_ids),
            )


@contextmanager
def counting_orderly_ends(starts: StartGuard) -> Iterator[None]:
    """Take the starts back at an end that no record caused; anything unforeseen counts as a crash."""
    try:
        yield
    except ReportedError:
        starts.take_back()
        raise
    starts.take_back()


def refuse_another_topic(settings: InventorySettings, connection: HotConnection) -> Mapping[str, str]:
    """Return the input topic's id. Raises FatalError if it was deleted and made again since the first start."""
    found = Admin(settings).topic_ids([ORDERS_CREATED])
    for topic, topic_id in found.items():
        remembered = rerun(partial(start_store.remembered_topic_id, topic=topic, topic_id=topic_id), connection)
        if remembered != topic_id:
            raise recreated(topic, remembered, topic_id)
    return found


if __name__ == "__main__":
    run_process(main)
