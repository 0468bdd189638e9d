"""What brings each planted bug to light: one fault, on a small pipeline of its own."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from audit.readers.cluster import Cluster
from audit.readers.evidence import Evidence
from audit.readers.topics import TopicReader
from audit.rules.judge import Judgement
from audit.whole import audit
from chaos.load import DirectLoad, HttpLoad, Mix, PastMinutes, wall_clock_ms
from chaos.run.minutes import COUNTING, PATIENT
from chaos.run.pipeline import FAST, Kept, Lane, VoidRunError
from chaos.run.plan import Action as Act
from chaos.run.plan import Arm, Fired
from chaos.run.servers import Server
from chaos.wire.proxy import END_TXN, TXN_OFFSET_COMMIT, KafkaProxy, end_txn_error
from chaos.wire.relay import Action, Direction, Frame
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from onceloop.errors import ExitCode

ORDERS = 200
BATCH = "25"
CAME_THROUGH_SECONDS_MAX = 12.0
OUTCOME_SECONDS_MAX = 15.0
SLEEP_SECONDS = 3.0
FROZEN = "broker frozen"
FROZEN_SECONDS = 1.5
TURN_SECONDS = 0.25
LONG_TRANSACTIONS = {
    "PIPELINE_KAFKA_PRODUCER_OPTIONS": FAST["PIPELINE_KAFKA_PRODUCER_OPTIONS"].replace("4000", "30000")
}


class Scene:
    """One pipeline with the bug or the product in it, what was done to it, and what was seen besides the books."""

    def __init__(self, lane: Lane, kafka: Server, open_until_judged: ExitStack, *, mutant: str, mix: Mix) -> None:
        self.lane, self.kafka = lane, kafka
        self.open_until_judged = open_until_judged
        self.faults: list[dict[str, Any]] = []
        self.txn_open: bool | None = None
        self.late: int | None = None
        """How many orders had no visible outcome in time; None where nobody counted."""
        self._mutant, self._mix = mutant, mix
        self._history, self._written = (lane.site.folder / name for name in ("history.jsonl", "written.jsonl"))
        self._history.touch()
        self._written.touch()
        lane.set_stock(mix.shelves())

    def start(self, name: str, slot: int = 0, **extra: str) -> Kept:
        """Start a service, the bug in it if one is planted."""
        batch = {"PIPELINE_BATCH_RECORDS_MAX": BATCH} if name == "inventory" else {}
        return self.lane.start(name, slot, mutant=self._mutant, **batch, **extra)

    def mix(self, **more: Any) -> Mix:
        """Return other orders than those before, on the same stock."""
        seed = self._mix.seed + 1
        self._mix = Mix(seed=seed, skus=self._mix.skus, units=self._mix.units)
        return Mix(seed=seed, skus=self._mix.skus, units=self._mix.units, **more)

    def load(
        self, orders: int = ORDERS, *, poison: float = 0.0, now_ms: Callable[[], int] = wall_clock_ms, **more: Any
    ) -> None:
        """Write orders onto the topic, placed when the clock says."""
        mix = self.mix(direct_orders=orders, poison=poison, **more)
        DirectLoad(self.lane.site.settings, self._written, now_ms=now_ms).run(mix)

    def load_until_fired(self, arm: Arm, load: Callable[[], None]) -> Fired:
        """Arm, load, and return the evidence that it fired."""
        self.lane.arm(arm)
        load()
        fired = self.lane.wait_fired(arm)
        self.txn_open = fired.txn_open
        self.note(arm.action.value, point=arm.point, pid=fired.pid, fired=fired.monotonic)
        return fired

    def http_load(self, api: Kept) -> HttpLoad:
        """Return what places orders over HTTP."""
        return HttpLoad(f"http://127.0.0.1:{api.port}", self._history)

    def note(self, kind: str, **what: Any) -> None:
        """Keep what was done, and when."""
        self.faults.append({"at": time.monotonic(), "kind": kind, **what})

    def unasked_deaths(self) -> list[str]:
        """Return who died without having been killed: the product loses nobody to the fault of another.

        A broker that is away for longer than the session may cost a worker its membership, and with it its life.
        """
        killed = {fault["pid"] for fault in self.faults if "kill" in fault["kind"]}
        foreseen = {ExitCode.UNAVAILABLE} if any(fault["kind"] == FROZEN for fault in self.faults) else set()
        return [
            f"L3: {kept.name}-{kept.slot} ended with {death.code} without a fault"
            for kept in self.lane.processes()
            for death in kept.deaths
            if death.pid not in killed and death.code not in foreseen
        ]

    def audit(self, *, followers: bool, minutes: bool) -> Judgement:
        """Judge the pipeline; what does not come through soon is judged as it stands."""
        site = self.lane.site
        logs = [kept.log for kept in self.lane.processes()]
        return audit(
            site.settings,
            wait_seconds=CAME_THROUGH_SECONDS_MAX,
            followers=followers,
            minutes=minutes,
            restocked=False,
            evidence=Evidence(
                history=self._history, written=self._written, logs=logs, secrets=site.secrets, heads=site.heads
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is set against a bug. `alone`: it hurts a server that others use.

    `followers`: they run, and are waited for; `minutes`: these are counted, and are waited for.
    """

    hurt: Callable[[Scene], None]
    followers: bool = False
    minutes: bool = False
    alone: bool = False
    skus: int = 40
    units: int = 1_000_000


def _kill(point: str, *, followers: bool = False, poison: float = 0.0) -> Trial:
    """Kill the worker at its second passing of a point."""

    def hurt(scene: Scene) -> None:
        for service in ("inventory", *(("notification", "order-projection") if followers else ())):
            scene.start(service)
        scene.lane.wait_ready()
        scene.load_until_fired(Arm(point=point, action=Act.KILL, hit=2), lambda: scene.load(poison=poison))

    return Trial(hurt=hurt, followers=followers)


def _leave_a_transaction_open(scene: Scene) -> None:
    """Kill a worker whose transactions may stay open for 30 s, and let the load go on: outcomes must stay visible."""
    scene.start("inventory", 0, **LONG_TRANSACTIONS)
    scene.lane.wait_ready()
    arm = Arm(point="inventory:flushed", action=Act.KILL, hit=2)
    scene.load_until_fired(arm, lambda: scene.load(ORDERS // 2, duplicates=0.0))
    scene.load(ORDERS // 2, duplicates=0.0, direct_rate=ORDERS / 4)
    scene.late = _late_outcomes(scene)


def _late_outcomes(scene: Scene) -> int:
    """Return how many orders lack a visible outcome 15 s after the last was accepted; 0 as soon as each has one."""
    cluster = Cluster(scene.lane.site.settings)
    topics = (INVENTORY_RESERVED, INVENTORY_FAILED)
    seen: list[object] = []
    deadline = time.monotonic() + OUTCOME_SECONDS_MAX
    with TopicReader(cluster, cluster.begins(topics), seen.append) as reader:
        while len(seen) < ORDERS and time.monotonic() < deadline:
            reader.read_to(cluster.ends(topics), seconds=TURN_SECONDS)
    return max(0, ORDERS - len(seen))


def _repeat_a_commit_late(scene: Scene) -> None:
    """Drop the broker's answer to a commit; have a copy of that commit arrive in the middle of the next transaction.

    It arrives before the offsets and after the events: events that came later would be refused, and nothing be doubled.
    """
    proxy = scene.open_until_judged.enter_context(KafkaProxy(scene.lane.site.settings.kafka_bootstrap))
    scene.start("inventory", PIPELINE_KAFKA_BOOTSTRAP=proxy.address)
    scene.lane.wait_ready()
    commit = proxy.rule(END_TXN, direction=Direction.REQUEST, action=Action.PASS, nth=2)
    lost = proxy.rule(END_TXN, direction=Direction.RESPONSE, action=Action.DROP, nth=2)

    def repeat(_frame: Frame) -> None:
        scene.note("commit repeated", error=end_txn_error(proxy.replay(commit.frames[0])))

    late = proxy.rule(
        TXN_OFFSET_COMMIT,
        direction=Direction.REQUEST,
        action=Action.PASS,
        where=lambda _: bool(lost.frames),
        then=repeat,
    )
    flushed = Arm(point="inventory:flushed", action=Act.SLEEP, hit=3)
    scene.load_until_fired(flushed, scene.load)
    try:
        late.wait()
    except TimeoutError as error:
        raise VoidRunError(str(error)) from error


def _ask_twice_at_once(scene: Scene) -> None:
    """Send many requests twice at once, each pair under one key."""
    scene.start("inventory")
    api = scene.start("order-api")
    scene.lane.wait_ready()
    mix = scene.mix(http_orders=ORDERS, keyed=1.0, paired=0.6, conflicting=0.0, invalid=0.0)
    tally = scene.http_load(api).run(mix)
    scene.note("pairs at once", requests=tally.ok, orders=tally.orders)
    if tally.ok <= ORDERS:
        raise VoidRunError("no pair of requests was answered")


def _sleep_on_what_was_read(scene: Scene) -> None:
    """Let one of two workers sleep on the stock that it read, while the other takes all of it."""
    for slot in range(2):
        scene.start("inventory", slot)
    scene.lane.wait_ready()
    arm = Arm(point="inventory:db.read", action=Act.SLEEP, seconds=SLEEP_SECONDS)
    # Every order wants one unit of one thing, so that nothing is left, and a single order in the sleeper's hands tells.
    # No copies: one that the other worker decides has the sleeper's whole batch decided anew.
    fired = scene.load_until_fired(arm, lambda: scene.load(quantity_max=1, unknown=0.0, duplicates=0.0))
    awake_at = fired.monotonic + SLEEP_SECONDS
    left = "SELECT 1 FROM inventory.stock WHERE available > 0"
    scene.lane.wait(
        lambda: not scene.lane.site.administer(left), "all stock taken", seconds=awake_at - time.monotonic()
    )
    if time.monotonic() > awake_at:
        raise VoidRunError("the sleeper woke before the other worker had taken all stock")


def _die_over_an_open_minute(scene: Scene) -> None:
    """Kill the counting behind a commit that closed a minute, while the next one is open.

    Orders come out of turn: the first of the open minute lies before some of the closed one, and these are read again.
    None comes hours late: a minute that is closed for one order alone has no others that are read again.
    """
    scene.start("inventory")
    counting = scene.start("metrics", 0, **PATIENT)  # so that no minute is closed but by the orders of the next one
    scene.start("metrics-totals", 0, **COUNTING)
    scene.lane.wait_ready()
    counting.extra = COUNTING
    arm = Arm(point="metrics:committed", action=Act.KILL)
    scene.load_until_fired(arm, lambda: scene.load(now_ms=PastMinutes(), late=0.0))


def _freeze_the_broker(scene: Scene) -> None:
    """Freeze the broker while orders come in, SIGKILL the intake, and let the broker go on."""
    scene.start("inventory")
    api = scene.start("order-api")
    scene.lane.wait_ready()
    load = scene.http_load(api)
    with ThreadPoolExecutor(1, "placing") as pool:
        placing = pool.submit(load.run, scene.mix(http_orders=ORDERS, http_rate=ORDERS / 4))
        scene.lane.wait(lambda: load.done >= ORDERS // 5, "a first part of the orders placed")
        scene.kafka.freeze()
        try:
            scene.note(FROZEN, placed=load.done)
            time.sleep(FROZEN_SECONDS)
            scene.note("intake killed", placed=load.done, pid=scene.lane.shoot(api))
        finally:
            scene.kafka.thaw()
        placing.result()


TRIALS: Mapping[str, Trial] = {
    "offsets-behind-the-commit": _kill("inventory:committed"),
    "reads-uncommitted": _kill("inventory:flushed", followers=True),
    "random-transactional-id": Trial(hurt=_leave_a_transaction_open),
    "no-look-up": _kill("inventory:db.committed"),
    "kafka-first": _kill("inventory:committed"),
    "event-built-anew": _kill("inventory:db.committed"),
    "no-taint": Trial(hurt=_repeat_a_commit_late),
    "key-checked-then-stored": Trial(hurt=_ask_twice_at_once),
    "blind-decrement": Trial(hurt=_sleep_on_what_was_read, skus=1, units=20),
    "dead-letter-outside": _kill("inventory:dlq.produced", poison=0.05),
    "accepted-too-early": Trial(hurt=_freeze_the_broker, alone=True),
    "minutes-forgotten": Trial(hurt=_die_over_an_open_minute, minutes=True),
}
"""By the bug's name."""
