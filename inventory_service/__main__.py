"""`python -m inventory_service`: one worker in one slot. Wiring only."""

from common import log, metrics
from common.config import load
from common.entry import run_process
from common.events import scanning
from common.kafka.admin import Admin
from common.kafka.members import building_producers, input_log, join, member_options, writer_options
from common.kafka.schema_registry import open_codec
from common.memory import spare_the_collector
from common.postgres.hot import hot_connection
from common.telemetry import RUNTIME, serving_probes
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED
from inventory_service.config import InventorySettings
from inventory_service.core import allocation
from inventory_service.io.guarding import SCHEMA, guards
from inventory_service.io.step import InventoryStep
from onceloop.health import Health
from onceloop.kafka.topic_watch import TopicWatch
from onceloop.lifecycle import stop_signal
from onceloop.postgres.guards.tables import GuardTables
from onceloop.postgres.guards.topic_id import refuse_another_topic
from onceloop.transactional import run


def main() -> None:
    """Read settings, open what is needed, work until a signal."""
    settings = load(InventorySettings)
    log.configure(settings, service="inventory", slot=settings.slot)
    consuming = member_options(settings, INVENTORY, slot=settings.slot)
    producing = writer_options(settings, INVENTORY, slot=settings.slot)
    state = Health()
    spare_the_collector()
    with (
        stop_signal() as stop,
        serving_probes(state, settings, metrics.of_worker("inventory_")),
        hot_connection(settings, application=f"inventory-{settings.slot}") as connection,
    ):
        log.get_logger().info("orders.read", by="extension" if scanning.is_built() else "python")
        codec = open_codec(settings, (ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED))
        topic_ids = Admin(settings).topic_ids([ORDERS_CREATED])
        tables = GuardTables(SCHEMA)
        refuse_another_topic(connection, tables, topic_ids)
        guarded = guards(connection, tables, codec, input_log(settings, ORDERS_CREATED, INVENTORY))
        step = InventoryStep(
            connection=connection,
            codec=codec,
            namespace=settings.namespace,
            batch_records_max=settings.batch_records_max,
            guards=guarded,
            rule=allocation,
        )
        with guarded.starts.counting_orderly_ends():
            run(
                step,
                consumer=join(consuming, settings, INVENTORY, [ORDERS_CREATED], untouched=guarded.starts.untouched),
                build_producer=building_producers(producing, INVENTORY),
                stop=stop,
                health=state,
                service=INVENTORY.name,
                watch=TopicWatch(settings.kafka, topic_ids),
                runtime=RUNTIME,
            )


if __name__ == "__main__":
    run_process(main)
