"""What stands before the first decision: guards over the tables of `inventory`."""

from collections.abc import Sequence

import psycopg

from common.events.codec import Codec
from common.events.orders import OrderCreated
from inventory_service.io import decision_store
from inventory_service.io.decision_store import Decisions
from onceloop.errors import Undecodable
from onceloop.kafka.input_log import InputLog
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.guards import Guards
from onceloop.postgres.guards.progress import Cures, ProgressGuard
from onceloop.postgres.guards.starts import StartGuard
from onceloop.postgres.guards.tables import GuardTables
from onceloop.records import InputRecord

SCHEMA = "inventory"
CURES = Cures(
    behind="restart the group's broker, whose log has the right ones; if it stays, stop the workers, then:"
    " pipeline offsets repair inventory",
    ahead="stop the workers; if PostgreSQL was restored from a backup, then: pipeline rebuild; if the offsets were set"
    " ahead, then: pipeline offsets repair inventory",
)


def guards(
    connection: HotConnection,
    tables: GuardTables,
    codec: Codec,
    input_log: InputLog,
    *,
    decisions: Decisions = decision_store,
) -> Guards:
    """Return the guards of one worker."""

    def undecided(connection: psycopg.Connection, records: Sequence[InputRecord]) -> list[InputRecord]:
        orders = [(record, order_id) for record in records if (order_id := _order_id(codec, record)) is not None]
        decided = decisions.decided(connection, {order_id for _, order_id in orders})
        return [record for record, order_id in orders if order_id not in decided]

    return Guards(
        StartGuard(connection, tables),
        ProgressGuard(connection, tables, input_log=input_log, undecided=undecided, cures=CURES),
    )


def _order_id(codec: Codec, record: InputRecord) -> str | None:
    try:
        return codec.decode(OrderCreated, record.value).order_id
    except Undecodable:
        return None
