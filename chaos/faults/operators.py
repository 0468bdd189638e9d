"""What operators do on an ordinary day: restock, look at rows in psql, use up connections, keep topics short, scale."""

import random
import time
from contextlib import ExitStack

import sqlalchemy as sa

from audit.readers.cluster import Cluster
from audit.readers.tables import TableReader
from audit.terms import Offsets, Spot
from chaos.faults.harness import FIRED_SECONDS_MAX, MENDED_SECONDS_MAX, Evidence, Fault, Harness, Hurts
from chaos.faults.servers import end_sessions_of, waiting_workers
from chaos.run.findings import VoidRunError
from chaos.run.heads import trim
from chaos.run.servers import Balance
from common.topics import (
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    METRICS,
    NOTIFICATION,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
)
from onceloop.errors import ReportedError
from services.table import ROLES

CHANGES = 40
CHANGE_UNITS_MAX = 9
UNITS_LEFT = 500
HELD_ROWS = 5
LOOK_SECONDS = 0.1
EXHAUSTED_SECONDS = 3.0
SESSIONS_MAX = 400
TRIM_ROUNDS = 3
TRIM_EVERY_SECONDS = 1.0
READ_SECONDS = 10.0
GUEST = 7
PRODUCERS_SECONDS = 15.0
"""For so long producers may use the former partitions (docs/adr/0037)."""

_CUT = (NOTIFICATION_SENT, INVENTORY_RESERVED, INVENTORY_FAILED, ORDERS_CREATED)
_COMMITTING = (INVENTORY, NOTIFICATION, METRICS)


def restock(harness: Harness, chance: random.Random) -> Evidence:
    """Set and add stock of a SKU that orders want, again and again, until orders took of it meanwhile.

    Nothing else changes what is on hand, so it must be what the change before left.
    """
    shelves, sku = harness.pipeline.shelves, harness.restocked_sku
    first = last = harness.insist(
        lambda: shelves.set(sku, shelves.add(sku, 0).reserved + UNITS_LEFT), f"set the stock of {sku}"
    )
    deadline = time.monotonic() + FIRED_SECONDS_MAX
    done = refused = 0
    while done < CHANGES or last.reserved <= first.reserved:
        if time.monotonic() > deadline:
            raise VoidRunError(f"no order took of {sku} while its stock was changed")
        more = chance.randint(-CHANGE_UNITS_MAX, CHANGE_UNITS_MAX)
        try:
            last = _change(harness, last, more, by_setting=chance.random() < 0.5)  # noqa: PLR2004 - one half
            done += 1
            time.sleep(LOOK_SECONDS if done > CHANGES else 0)  # what is left is to see an order take of it
        except ReportedError:  # a lock was held too long, or more is reserved than would be left
            refused += 1
            time.sleep(LOOK_SECONDS)
            last = harness.insist(lambda: shelves.add(sku, 0), f"look at the stock of {sku}")
    return {"sku": sku, "changes": done, "refused": refused, "reserved_meanwhile": last.reserved - first.reserved}


def _change(harness: Harness, last: Balance, more: int, *, by_setting: bool) -> Balance:
    shelves, sku, wanted = harness.pipeline.shelves, harness.restocked_sku, last.on_hand + more
    balance = shelves.set(sku, wanted) if by_setting else shelves.add(sku, more)
    if balance.on_hand != wanted:
        harness.complaints.append(f"S6: {sku} has {balance.on_hand} on hand after a change to {wanted}")
    return balance


def hold_rows(harness: Harness, _chance: random.Random) -> Evidence:
    """Look at stock rows FOR UPDATE in a session that then stays idle in its transaction, as psql does over lunch."""
    seconds = harness.pace.held_seconds
    with harness.pipeline.session() as psql:
        wanted = "SELECT sku FROM inventory.stock WHERE available < on_hand ORDER BY sku LIMIT :rows FOR UPDATE"
        rows = psql(wanted, rows=HELD_ROWS)  # some of the demo shop, which no client orders, may be there too
        began, waiting = time.monotonic(), 0
        while (held := time.monotonic() - began) < seconds or (not waiting and held < FIRED_SECONDS_MAX):
            waiting = max(waiting, harness.insist(lambda: waiting_workers(harness), "look at who waits"))
            time.sleep(LOOK_SECONDS)
    if not waiting:
        raise VoidRunError("no worker waited for the rows that a session held")
    return {"rows": len(rows), "seconds": round(held, 2), "waiting": waiting}


def use_up_connections(harness: Harness, _chance: random.Random) -> Evidence:
    """Open sessions until the server takes no more, end those of the services, and hold what is open for a while."""
    pipeline, refusal = harness.pipeline, ""
    with ExitStack() as opened:
        first = opened.enter_context(pipeline.session())
        held = 1
        while not refusal and held < SESSIONS_MAX:
            try:
                opened.enter_context(pipeline.session())
                held += 1
            except sa.exc.OperationalError as error:
                refusal = str(error.orig).strip().splitlines()[-1]
        if not refusal:
            raise VoidRunError(f"the server still took sessions after {held}")
        ended = sum(end_sessions_of(first, role) for role in ROLES)
        deadline = time.monotonic() + EXHAUSTED_SECONDS
        while time.monotonic() < deadline:  # the slots that these had are taken as well
            try:
                opened.enter_context(pipeline.session())
                held += 1
            except sa.exc.OperationalError:
                time.sleep(LOOK_SECONDS)
    return {"sessions": held, "refusal": refusal, "ended": ended, "seconds": EXHAUSTED_SECONDS}


def trim_heads(harness: Harness, _chance: random.Random) -> Evidence:
    """Delete what every group has behind it, a few times, while all of them go on."""
    deleted = rounds = 0
    deadline = time.monotonic() + MENDED_SECONDS_MAX
    while rounds < TRIM_ROUNDS or (not deleted and time.monotonic() < deadline):  # others may hold a group for long
        deleted += harness.insist(lambda: _trim(harness), "delete the heads")
        rounds += 1
        time.sleep(TRIM_EVERY_SECONDS)
    if not deleted:
        raise VoidRunError("no group had anything behind it")
    return {"records": deleted, "rounds": rounds}


def trim_behind_a_stopped_group(harness: Harness, chance: random.Random) -> Evidence:
    """Stop a service, delete what every group has behind it, so up to where the stopped one must go on; start it."""
    stopping = chance.choice(harness.unspared("notification", "order-projection"))
    with harness.stopped(stopping):
        deleted = harness.insist(lambda: _trim(harness), "delete the heads")
    harness.wait_ready(stopping)
    return {"stopped": stopping.service, "records": deleted}


def _trim(harness: Harness) -> int:
    """Delete up to what every group has committed; return how many offsets that were."""
    pipeline = harness.pipeline
    cluster = Cluster(pipeline.settings)
    begins = cluster.begins((NOTIFICATION_SENT, ORDERS_CREATED) if harness.recount_ahead else _CUT)
    behind = _behind_all(harness, cluster, begins)
    heads = {spot: offset for spot, offset in behind.items() if offset > begins[spot]}
    if heads:
        pipeline.auditor.read_ahead(heads, seconds=READ_SECONDS)
        trim(pipeline.settings, heads)
    return sum(offset - begins[spot] for spot, offset in heads.items())


def _behind_all(harness: Harness, cluster: Cluster, begins: Offsets) -> dict[Spot, int]:
    """Return the offset below which no group reads any more, per partition."""
    moved = set(harness.moved)
    projection = TableReader(harness.pipeline.settings).projection()
    stands = {group: cluster.committed(group) for group in _COMMITTING}
    stands |= dict.fromkeys(moved | harness.moved, begins)  # looked at before and after: one may come or go meanwhile
    behind = {}
    readers = {topic.name: topic.readers for topic in _CUT}
    for spot, begin in begins.items():
        known = [offsets.get(spot, begin) for group, offsets in stands.items() if group in readers[spot.topic]]
        behind[spot] = min([projection.get(spot, begin), *known])
    return behind


def add_a_worker(harness: Harness, _chance: random.Random) -> Evidence:
    """Scale up by one worker until it has worked, and down again in order."""
    with harness.guest(GUEST, graceful=True) as guest:
        harness.wait_ready(guest)
        harness.wait(lambda: b"batch.committed" in guest.log.read_bytes(), "a batch of one more worker")
    stopped = [stop for stop in harness.stops if stop.name == str(guest)][-1]
    return {"slot": GUEST, "seconds_to_stop": round(stopped.seconds, 2), "code": stopped.code}


def grow(harness: Harness, _chance: random.Random) -> Evidence:
    """Give the topics that are keyed by user half as many partitions more."""
    pipeline = harness.pipeline
    before = harness.insist(lambda: len(Cluster(pipeline.settings).spots(ORDERS_CREATED)), "count the partitions")
    after = before * 3 // 2
    argv = ("topics", "grow", ORDERS_CREATED.name, "--partitions", str(after))
    since = time.monotonic()
    try:
        done = harness.insist(lambda: pipeline.command(*argv), "grow the topics", seconds=MENDED_SECONDS_MAX)
    finally:
        harness.grown.append((since, time.monotonic() + PRODUCERS_SECONDS))
    return {"partitions": (before, after), "said": done.splitlines()[-1]}


FAULTS = (
    Fault("partitions added", Hurts.TOPIC, grow, once=True),
    Fault("stock changed by hand", Hurts.DATABASE, restock),
    Fault("rows held in psql", Hurts.DATABASE, hold_rows),
    Fault("connections used up", Hurts.DATABASE, use_up_connections),
    Fault("heads trimmed", Hurts.TOPIC, trim_heads),
    Fault("heads trimmed behind a stopped group", Hurts.NOTIFICATION, trim_behind_a_stopped_group),
    Fault("third worker", Hurts.WORKERS, add_a_worker),
)
