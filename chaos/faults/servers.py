"""Faults of the servers: broker, controller and database killed, sessions ended, rows locked, connections refused."""

import random
import threading
import time
from collections.abc import Callable

from chaos.faults.harness import Act, Evidence, Fault, Harness, Hurts
from chaos.run.findings import VoidRunError
from chaos.run.pipeline import Servers
from chaos.run.servers import Administrator, Server
from onceloop.errors import ReportedError
from services.table import ROLES

DOWN_SECONDS = (0.3, 1.5)
LOCK_SECONDS = 3.0
"""More than lock_timeout."""
EXHAUSTED_SECONDS = 2.0
LOOK_SECONDS = 0.05


def _killed(named: Callable[[Servers], Server]) -> Act:
    """SIGKILL a server with all its processes; start it again on its data."""

    def act(harness: Harness, chance: random.Random) -> Evidence:
        server = named(harness.pipeline.servers)
        former, began = server.pid, time.monotonic()
        server.kill()
        time.sleep(chance.uniform(*DOWN_SECONDS))
        try:
            server.start()
        except ReportedError as error:
            raise VoidRunError(f"the server does not come back: {error.message}", cure=error.cure) from error
        return {"pid": former, "successor": server.pid, "seconds": round(time.monotonic() - began, 2)}

    return act


def end_sessions(harness: Harness, chance: random.Random) -> Evidence:
    """Terminate all sessions of one role."""
    role = chance.choice(ROLES)
    ended = harness.wait(lambda: end_sessions_of(harness.pipeline.administer, role), f"a session of {role} to end")
    return {"role": role, "sessions": ended}


def end_sessions_of(run: Administrator, role: str) -> int:
    """Terminate the sessions of a role in this database; return how many there were."""
    rows = run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = CAST(:role AS name)",
        role=role,
    )
    return len(rows)


def lock_hot_sku(harness: Harness, _chance: random.Random) -> Evidence:
    """Hold the row of a SKU that many want, for longer than any worker waits for a lock; again if none came to wait."""
    waiting = harness.wait(lambda: _hold_and_look(harness), f"a worker that waits for {harness.hot_sku}")
    return {"sku": harness.hot_sku, "seconds": LOCK_SECONDS, "waiting": waiting}


def _hold_and_look(harness: Harness) -> int:
    """Hold the row; return how many were seen waiting."""
    waiting = 0
    holder = threading.Thread(target=_hold_row, args=(harness,), name="row-lock", daemon=True)
    holder.start()
    while holder.is_alive():
        waiting = max(waiting, waiting_workers(harness))
        time.sleep(LOOK_SECONDS)
    return waiting


def waiting_workers(harness: Harness) -> int:
    """Return how many sessions of inventory wait for a lock."""
    ((count,),) = harness.pipeline.administer(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = 'inventory_rw' AND wait_event_type = 'Lock'"
    )
    return int(count)


def _hold_row(harness: Harness) -> None:
    harness.pipeline.administer(
        "WITH held AS MATERIALIZED (SELECT sku FROM inventory.stock WHERE sku = :sku FOR UPDATE)"
        " SELECT CAST(pg_sleep(:seconds) AS text) FROM held",
        sku=harness.hot_sku,
        seconds=LOCK_SECONDS,
    )


def exhaust_connections(harness: Harness, _chance: random.Random) -> Evidence:
    """End all sessions and refuse new ones to everybody but the superuser."""
    administer = harness.pipeline.administer
    ((name,),) = administer("SELECT current_database()")
    administer(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    try:
        ended = sum(end_sessions_of(administer, role) for role in ROLES)
        time.sleep(EXHAUSTED_SECONDS)
    finally:
        administer(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    if not ended:
        raise VoidRunError("no session was there to be refused its successor")
    return {"sessions": ended, "seconds": EXHAUSTED_SECONDS}


FAULTS = (
    Fault("broker killed", Hurts.BROKER, _killed(lambda servers: servers.kafka)),
    Fault("controller killed", Hurts.BROKER, _killed(lambda servers: servers.controller)),
    Fault("database killed", Hurts.DATABASE, _killed(lambda servers: servers.postgres)),
    Fault("sessions ended", Hurts.DATABASE, end_sessions),
    Fault("row locked", Hurts.DATABASE, lock_hot_sku),
    Fault("connections exhausted", Hurts.DATABASE, exhaust_connections),
)
