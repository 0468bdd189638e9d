"""What brings each planted bug to light: one fault, on a small pipeline of its own."""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from audit.readers.cluster import Cluster
from audit.readers.topics import TopicReader
from chaos.lives import FORESEEN
from chaos.load import PastMinutes
from chaos.run.findings import Findings, VoidRunError
from chaos.run.minutes import COUNTING, PATIENT
from chaos.run.pipeline import FAST, Pipeline
from chaos.run.plan import Action as Act
from chaos.run.plan import Arm, Fired
from chaos.wire.proxy import END_TXN, TXN_OFFSET_COMMIT, KafkaProxy, end_txn_error
from chaos.wire.relay import Action, Direction, Frame
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED

ORDERS = 200
OUTCOME_SECONDS_MAX = 15.0
IN_TIME_SHARE = 0.95
SLEEP_SECONDS = 3.0
FROZEN_SECONDS = 1.5
TURN_SECONDS = 0.25
LONG_TRANSACTIONS = {
    "PIPELINE_KAFKA_PRODUCER_OPTIONS": FAST["PIPELINE_KAFKA_PRODUCER_OPTIONS"].replace("4000", "30000")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is set against a bug. `alone`: it hurts a server that others use.

    `followers`: they run, and are waited for; `minutes`: these are counted, and are waited for.
    """

    hurt: Callable[[Pipeline, Findings], None]
    followers: bool = False
    minutes: bool = False
    alone: bool = False
    foreseen: Collection[int] = ()
    """Exit codes of ends that the fault excuses."""
    skus: int = 40
    units: int = 1_000_000


def _kill(point: str, *, followers: bool = False, poison: float = 0.0, flush: bool = False) -> Trial:
    """Kill the worker at its second passing of a point."""

    def hurt(pipeline: Pipeline, found: Findings) -> None:
        for service in ("inventory", *(("notification", "order-projection") if followers else ())):
            pipeline.start(service)
        pipeline.wait_ready()
        arm = Arm(point=point, action=Act.KILL, hit=2, flush=flush)
        _fire(pipeline, found, arm, lambda: pipeline.load(direct=ORDERS, poison=poison))

    return Trial(hurt=hurt, followers=followers)


def _fire(pipeline: Pipeline, found: Findings, arm: Arm, load: Callable[[], None]) -> Fired:
    """Arm, load, and return the evidence that it fired."""
    pipeline.arm(arm)
    load()
    fired = pipeline.wait_fired(arm)
    found.txn_open = fired.txn_open
    found.fault(arm.action.value, at=fired.monotonic, point=arm.point, pid=fired.pid)
    if arm.action is Act.KILL:
        found.killed.add(fired.pid)
    return fired


def _leave_a_transaction_open(pipeline: Pipeline, found: Findings) -> None:
    """Kill a worker whose transactions may stay open for 30 s, and let the load go on: outcomes must stay visible.

    L1 is judged here, and no book is read if it broke: by then the open transaction has timed out, and all is in order.
    """
    pipeline.start("inventory", 0, **LONG_TRANSACTIONS)
    pipeline.wait_ready()
    arm = Arm(point="inventory:flushed", action=Act.KILL, hit=2, flush=True)
    load_half = partial(pipeline.load, direct=ORDERS // 2, poison=0.0, duplicates=0.0)
    _fire(pipeline, found, arm, load_half)
    load_half(direct_rate=ORDERS / 4)
    late = _late_outcomes(pipeline)
    if ORDERS - late < IN_TIME_SHARE * ORDERS:  # the slowest of the quickest 95 in 100 counts
        found.rules["L1"] = (ORDERS, late)
        found.culprits.append(f"L1 ({late}x) no outcome within {OUTCOME_SECONDS_MAX:.0f} s")


def _late_outcomes(pipeline: Pipeline) -> int:
    """Return how many orders lack a visible outcome 15 s after the last was accepted; 0 as soon as each has one."""
    cluster = Cluster(pipeline.settings)
    topics = (INVENTORY_RESERVED, INVENTORY_FAILED)
    seen: list[object] = []
    deadline = time.monotonic() + OUTCOME_SECONDS_MAX
    with TopicReader(cluster, cluster.begins(topics), seen.append) as reader:
        while len(seen) < ORDERS and time.monotonic() < deadline:
            reader.read_to(cluster.ends(topics), seconds=TURN_SECONDS)
    return max(0, ORDERS - len(seen))


def _repeat_a_commit_late(pipeline: Pipeline, found: Findings) -> None:
    """Drop the broker's answer to a commit; have a copy of that commit arrive in the middle of the next transaction.

    It arrives before the offsets and after the events: events that came later would be refused, and nothing be doubled.
    """
    proxy = pipeline.open(KafkaProxy(pipeline.settings.kafka_bootstrap))
    pipeline.start("inventory", PIPELINE_KAFKA_BOOTSTRAP=proxy.address)
    pipeline.wait_ready()
    commit = proxy.rule(END_TXN, direction=Direction.REQUEST, action=Action.PASS, nth=2)
    lost = proxy.rule(END_TXN, direction=Direction.RESPONSE, action=Action.DROP, nth=2)

    def repeat(_frame: Frame) -> None:
        found.fault("commit repeated", error=end_txn_error(proxy.replay(commit.frames[0])))

    late = proxy.rule(
        TXN_OFFSET_COMMIT,
        direction=Direction.REQUEST,
        action=Action.PASS,
        where=lambda _: bool(lost.frames),
        then=repeat,
    )
    flushed = Arm(point="inventory:flushed", action=Act.SLEEP, hit=3, flush=True)
    _fire(pipeline, found, flushed, lambda: pipeline.load(direct=ORDERS, poison=0.0))
    late.wait()


def _ask_twice_at_once(pipeline: Pipeline, found: Findings) -> None:
    """Send many requests twice at once, each pair under one key."""
    pipeline.start("inventory")
    pipeline.start("order-api")
    pipeline.wait_ready()
    mix = pipeline.mix(http_orders=ORDERS, keyed=1.0, paired=0.6, conflicting=0.0, invalid=0.0)
    tally = pipeline.http_load().run(mix)
    found.fault("pairs at once", requests=tally.ok, orders=tally.orders)
    if tally.ok <= ORDERS:
        raise VoidRunError("no pair of requests was answered")


def _sleep_on_what_was_read(pipeline: Pipeline, found: Findings) -> None:
    """Let one of two workers sleep on the stock that it read, while the other takes all of it."""
    for slot in range(2):
        pipeline.start("inventory", slot)
    pipeline.wait_ready()
    arm = Arm(point="inventory:db.read", action=Act.SLEEP, seconds=SLEEP_SECONDS)
    # Every order wants one unit of one thing: nothing is left, and a single order in the sleeper's hands shows it.
    # No copies: one that the other worker decides has the sleeper's whole batch decided again.
    load = partial(pipeline.load, direct=ORDERS, poison=0.0, quantity_max=1, unknown=0.0, duplicates=0.0)
    fired = _fire(pipeline, found, arm, load)
    awake_at = fired.monotonic + SLEEP_SECONDS
    left = "SELECT 1 FROM inventory.stock WHERE available > 0"
    pipeline.wait(lambda: not pipeline.administer(left), "all stock taken", seconds=awake_at - time.monotonic())
    if time.monotonic() > awake_at:
        raise VoidRunError("the sleeper woke before the other worker had taken all stock")


def _die_over_an_open_minute(pipeline: Pipeline, found: Findings) -> None:
    """Kill the counting behind a commit that closed a minute, while the next one is open.

    Orders come out of turn: the first of the open minute lies before some of the closed one, and these are read again.
    None comes hours late: a minute that is closed for one order alone has no others that are read again.
    """
    pipeline.start("inventory")
    counting = pipeline.start("metrics", 0, **PATIENT)  # so that no minute is closed but by the orders of the next one
    pipeline.start("metrics-totals", 0, **COUNTING)
    pipeline.wait_ready()
    counting.extra = COUNTING
    pipeline.clock = PastMinutes()
    arm = Arm(point="metrics:committed", action=Act.KILL)
    _fire(pipeline, found, arm, lambda: pipeline.load(direct=ORDERS, poison=0.0, late=0.0))


def _freeze_the_broker(pipeline: Pipeline, found: Findings) -> None:
    """Freeze the broker while orders come in, SIGKILL the intake, and let the broker go on.

    A broker that is away for longer than the session may cost a worker its membership, and with it its life.
    """
    pipeline.start("inventory")
    api = pipeline.start("order-api")
    pipeline.wait_ready()
    load = pipeline.http_load()
    with ThreadPoolExecutor(1, "placing") as pool:
        placing = pool.submit(load.run, pipeline.mix(http_orders=ORDERS, http_rate=ORDERS / 4))
        pipeline.wait(lambda: load.done >= ORDERS // 5, "a first part of the orders placed")
        pipeline.servers.kafka.freeze()
        try:
            found.fault("broker frozen", placed=load.done)
            time.sleep(FROZEN_SECONDS)
            pid = pipeline.shoot(api)
            found.killed.add(pid)
            found.fault("intake killed", placed=load.done, pid=pid)
        finally:
            pipeline.servers.kafka.thaw()
        placing.result()


TRIALS: Mapping[str, Trial] = {
    "offsets-behind-the-commit": _kill("inventory:committed"),
    "reads-uncommitted": _kill("inventory:flushed", followers=True, flush=True),
    "random-transactional-id": Trial(hurt=_leave_a_transaction_open),
    "no-look-up": _kill("inventory:db.committed"),
    "kafka-first": _kill("inventory:committed"),
    "event-built-anew": _kill("inventory:db.committed"),
    "no-taint": Trial(hurt=_repeat_a_commit_late),
    "key-checked-then-stored": Trial(hurt=_ask_twice_at_once),
    "blind-decrement": Trial(hurt=_sleep_on_what_was_read, skus=1, units=20),
    "dead-letter-outside": _kill("inventory:dlq.produced", poison=0.05),
    "accepted-too-early": Trial(hurt=_freeze_the_broker, alone=True, foreseen=FORESEEN),
    "minutes-forgotten": Trial(hurt=_die_over_an_open_minute, minutes=True),
}
"""By the bug's name."""
