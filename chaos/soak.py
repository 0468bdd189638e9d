"""Mixed faults for hours, in rounds: the books of each are judged, and what lives long must not grow.

Each round has a pipeline of its own, so that neither the topics nor the judge's memory grow with the hours. In each,
one worker and the projection are spared from every end, so that there is something to measure.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from audit.errors import StoreDownError
from chaos.faults import FAULTS, REAL
from chaos.growth import EVERY_SECONDS, Growth, Life, curves, grown, thirds
from chaos.history import Conditions, Result, Run, culprits_of, rules_of
from chaos.mixed_faults import Battle, open_battle
from chaos.paths import REQUIRED
from chaos.run.pipeline import VoidRunError
from chaos.run.servers import Ground
from chaos.schedule import Planned, schedule

ROUND_SECONDS = 1800.0
ORDERS_PER_SECOND = 175
"""More than 5,000,000 in 8 hours."""
FAULTS_PER_WINDOW = 2
SPARED = frozenset({("inventory", 1), ("order-projection", 0)})
SEEDS_PER_SOAK = 1000
SAMPLES_OF_A_SHORT_ROUND = 12
CERTAIN_SHARE = 0.25
"""In this first part of a round fall those faults that fall once."""
CERTAIN = sorted(
    (kind for kind, fault in FAULTS.items() if fault.alone or fault.once or fault.ends_all),
    key=lambda kind: (not FAULTS[kind].ends_all, kind),
)
VOIDS_MAX = 0.1
"""Of a soak's faults so many may not have found their moment; they do not count."""


@dataclass(slots=True)
class _Sum:
    """What all rounds so far amount to."""

    faults: list[dict[str, Any]] = field(default_factory=list)
    orders: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)
    culprits: list[str] = field(default_factory=list)
    voids: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def add_rules(self, rules: Mapping[str, tuple[int, int]]) -> None:
        for rule, (judged, broken) in rules.items():
            before = self.rules.get(rule, (0, 0))
            self.rules[rule] = (before[0] + judged, before[1] + broken)

    def shortcomings(self) -> Iterator[str]:
        """Yield what keeps the soak from proving anything."""
        yield from (f"M2: the recovery path '{path}' was never taken" for path in REQUIRED if not self.paths[path])
        if len(self.voids) > VOIDS_MAX * (len(self.faults) + len(self.voids)):
            yield f"{len(self.voids)} faults did not take place: {self.voids[0]}"
        took_place = {fault["kind"] for fault in self.faults}
        yield from (f"{kind} did not take place" for kind in CERTAIN if kind not in took_place)
        if not self.curves:
            yield "nothing lived long enough for its growth to be judged"


def soak(ground: Ground, *, seed: int, hours: float, report: Callable[[str], None], conditions: Conditions) -> Run:
    """Do rounds until the hours are over or a rule broke."""
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    seconds, total, void = 3600 * hours, _Sum(), ""
    try:
        for number in range(max(1, math.ceil(seconds / ROUND_SECONDS))):
            length = min(ROUND_SECONDS, seconds - number * ROUND_SECONDS)
            _round(ground, SEEDS_PER_SOAK * seed + number, number, length, total, report)
            if total.culprits:
                break
    except (VoidRunError, StoreDownError) as error:
        void = error.message
    voids = [*filter(None, [void]), *total.shortcomings()]
    return Run(
        id=f"soak-{seed}",
        tier="soak",
        subject=f"{hours:g} hours of mixed faults",
        seed=seed,
        result=Result.FAILED if total.culprits else Result.VOID if voids else Result.PASSED,
        why="; ".join((total.culprits or voids)[:1]),
        settings={"hours": hours},
        started=started,
        seconds=round(time.monotonic() - began, 2),
        faults=total.faults,
        orders=dict(total.orders),
        rules=total.rules,
        culprits=[*total.culprits, *voids],
        paths=dict(total.paths),
        curves=total.curves,
        conditions=conditions,
    )


def plan(seed: int, seconds: float) -> list[Planned]:
    """Return the faults of a round: first those that a round has once, for certain, then what the deck brings.

    The first ones end what else is spared; what lives long is measured from then on.
    """
    every_seconds = seconds * CERTAIN_SHARE / (len(CERTAIN) + 1)
    first = [
        Planned(round(every_seconds * (number + 1), 2), kind, seed + number) for number, kind in enumerate(CERTAIN)
    ]
    others = [kind for kind in FAULTS if kind not in CERTAIN]
    return sorted([*first, *schedule(seed, seconds, others, per_window=FAULTS_PER_WINDOW)])


def _round(ground: Ground, seed: int, number: int, seconds: float, total: _Sum, report: Callable[[str], None]) -> None:
    """Fight and judge once; add it to the sum."""
    with ExitStack() as opened:
        battle = opened.enter_context(open_battle(ground, f"soak-{seed}", seed=seed, spared=SPARED, pace=REAL))
        every_seconds = min(EVERY_SECONDS, seconds / SAMPLES_OF_A_SHORT_ROUND)
        with Growth(lambda: _lives(battle), lambda: _sessions(battle), every_seconds=every_seconds) as growth:
            told = battle.fight(
                plan(seed, seconds), seconds=seconds, orders=round(ORDERS_PER_SECOND * seconds), report=report
            )
        judgement, complaints = battle.judge(report=report, minutes=True)
        found = [*culprits_of(judgement), *complaints, *grown(growth.samples)]
        lives = curves(growth.samples)
        total.curves |= {f"round {number}, {what}": series for what, series in lives.items()}
        total.orders.update({**told, **judgement.counts})
        total.paths.update(battle.paths(judgement))
        total.add_rules(rules_of(judgement))
        total.voids += battle.course.voids
        total.culprits += [f"round {number} (seed {seed}): {line}" for line in found]
        total.faults += [
            {"at": round(number * ROUND_SECONDS + fault["at"], 1), "kind": fault["kind"]}
            for fault in battle.course.faults
        ]
    report(
        f"round {number}: {judgement.counts['orders']:,} orders, {len(battle.course.faults)} faults,"
        f" {len(battle.course.voids)} found no moment, {'sound' if not found else found[0]}"
    )
    for what, series in lives.items():
        first, last = thirds(series)
        report(f"  {what}: {first:.0f}, then {last:.0f}")


def _lives(battle: Battle) -> list[Life]:
    """Return the processes to measure; what the proxies have seen is let go on the way."""
    battle.field.kafka.seen.clear()
    battle.field.postgres.seen.clear()
    return [
        Life(f"{kept.name} {kept.slot}", kept.pid)
        for kept in battle.field.lane.processes()
        if (kept.name, kept.slot) in SPARED and kept.pid
    ]


def _sessions(battle: Battle) -> dict[str, int] | None:
    try:
        rows = battle.field.lane.site.administer(
            "SELECT CAST(usename AS text), count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename LIKE '%_rw' GROUP BY usename"
        )
    except sa.exc.SQLAlchemyError:
        return None
    return {str(role): int(count) for role, count in rows}
