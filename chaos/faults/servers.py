"""Faults of the servers: broker, controller and database killed, sessions ended, rows locked, connections refused."""

import random
import threading
import time

from chaos.faults.harness import FIRED_SECONDS_MAX, Evidence, Fault, Field, Hurts
from chaos.run.pipeline import VoidRunError
from chaos.run.servers import Administrator, Server
from onceloop.errors import ReportedError
from services.table import ROLES

DOWN_SECONDS = (0.3, 1.5)
LOCK_SECONDS = 3.0
"""More than lock_timeout."""
EXHAUSTED_SECONDS = 2.0
LOOK_SECONDS = 0.05


def kill_broker(field: Field, chance: random.Random) -> Evidence:
    """SIGKILL the broker; start it again on its data."""
    return _kill(field.ground.kafka, chance)


def kill_controller(field: Field, chance: random.Random) -> Evidence:
    """SIGKILL the controller; start it again on its data."""
    return _kill(field.ground.controller, chance)


def kill_database(field: Field, chance: random.Random) -> Evidence:
    """SIGKILL PostgreSQL with all its sessions; start it again on its data."""
    return _kill(field.ground.postgres, chance)


def _kill(server: Server, chance: random.Random) -> Evidence:
    former, began = server.pid, time.monotonic()
    server.kill()
    time.sleep(chance.uniform(*DOWN_SECONDS))
    try:
        server.start()
    except ReportedError as error:
        raise VoidRunError(f"the server does not come back: {error.message}", cure=error.cure) from error
    return {"pid": former, "successor": server.pid, "seconds": round(time.monotonic() - began, 2)}


def end_sessions(field: Field, chance: random.Random) -> Evidence:
    """Terminate all sessions of one role."""
    role = chance.choice(ROLES)
    deadline = time.monotonic() + FIRED_SECONDS_MAX
    while not (ended := end_sessions_of(field.lane.site.administer, role)):
        if time.monotonic() > deadline:
            raise VoidRunError(f"no session of {role} to end")
        time.sleep(LOOK_SECONDS)
    return {"role": role, "sessions": ended}


def end_sessions_of(run: Administrator, role: str) -> int:
    """Terminate the sessions of a role in this database; return how many there were."""
    rows = run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = CAST(:role AS name)",
        role=role,
    )
    return len(rows)


def lock_hot_sku(field: Field, _chance: random.Random) -> Evidence:
    """Hold the row of a SKU that many want, for longer than anybody waits for a lock; again if nobody came to wait."""
    deadline = time.monotonic() + FIRED_SECONDS_MAX
    while not (waiting := _hold_and_look(field)):
        if time.monotonic() > deadline:
            raise VoidRunError(f"nobody waited for {field.hot_sku} while its row was locked")
    return {"sku": field.hot_sku, "seconds": LOCK_SECONDS, "waiting": waiting}


def _hold_and_look(field: Field) -> int:
    """Hold the row; return how many were seen waiting."""
    waiting = 0
    holder = threading.Thread(target=_hold_row, args=(field,), name="row-lock", daemon=True)
    holder.start()
    while holder.is_alive():
        waiting = max(waiting, waiting_workers(field))
        time.sleep(LOOK_SECONDS)
    return waiting


def waiting_workers(field: Field) -> int:
    """Return how many sessions of inventory wait for a lock."""
    ((count,),) = field.lane.site.administer(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = 'inventory_rw' AND wait_event_type = 'Lock'"
    )
    return int(count)


def _hold_row(field: Field) -> None:
    field.lane.site.administer(
        "WITH held AS MATERIALIZED (SELECT sku FROM inventory.stock WHERE sku = :sku FOR UPDATE)"
        " SELECT CAST(pg_sleep(:seconds) AS text) FROM held",
        sku=field.hot_sku,
        seconds=LOCK_SECONDS,
    )


def exhaust_connections(field: Field, _chance: random.Random) -> Evidence:
    """End all sessions and refuse new ones to everybody but the superuser."""
    site = field.lane.site
    ((name,),) = site.administer("SELECT current_database()")
    site.administer(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    try:
        ended = sum(end_sessions_of(site.administer, role) for role in ROLES)
        time.sleep(EXHAUSTED_SECONDS)
    finally:
        site.administer(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    if not ended:
        raise VoidRunError("no session was there to be refused its successor")
    return {"sessions": ended, "seconds": EXHAUSTED_SECONDS}


FAULTS = (
    Fault("broker killed", Hurts.BROKER, kill_broker),
    Fault("controller killed", Hurts.BROKER, kill_controller),
    Fault("database killed", Hurts.DATABASE, kill_database),
    Fault("sessions ended", Hurts.DATABASE, end_sessions),
    Fault("row locked", Hurts.DATABASE, lock_hot_sku),
    Fault("connections exhausted", Hurts.DATABASE, exhaust_connections),
)
