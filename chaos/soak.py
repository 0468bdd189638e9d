"""Mixed faults for hours, in rounds: the books of each are judged, and what lives long must not grow.

Each round has a pipeline of its own, so that neither the topics nor the judge's memory grow with the hours. In each,
one worker and the projection are spared from every end, so that there is something to measure.
"""

import math
from collections.abc import Iterator

import sqlalchemy as sa

from chaos.faults import FAULTS, REAL
from chaos.growth import EVERY_SECONDS, Growth, Life, curves, grown, thirds
from chaos.history import Run
from chaos.mixed_faults import MixedFaults, Report, open_mixed_faults
from chaos.paths import REQUIRED
from chaos.run.findings import Findings, record
from chaos.run.pipeline import Pipeline, Servers
from chaos.run.threads import repeated
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


def soak(servers: Servers, *, seed: int, hours: float, report: Report) -> Run:
    """Do rounds until the hours are over or a rule broke."""
    seconds = 3600 * hours

    def act(total: Findings) -> None:
        for number in range(max(1, math.ceil(seconds / ROUND_SECONDS))):
            length = min(ROUND_SECONDS, seconds - number * ROUND_SECONDS)
            _round(servers, SEEDS_PER_SOAK * seed + number, number, length, total, report)
            if total.culprits:
                break
        total.voids = list(_shortcomings(total))

    return record(
        act,
        tier="soak",
        subject=f"{hours:g} hours of mixed faults",
        seed=seed,
        settings={"hours": hours},
    )


def _shortcomings(total: Findings) -> Iterator[str]:
    """Yield what keeps the soak from proving anything."""
    yield from (f"M2: the recovery path '{path}' was never taken" for path in REQUIRED if not total.paths[path])
    if len(total.voids) > VOIDS_MAX * (len(total.faults) + len(total.voids)):
        yield f"{len(total.voids)} faults did not take place: {total.voids[0]}"
    took_place = {fault["kind"] for fault in total.faults}
    yield from (f"{kind} did not take place" for kind in CERTAIN if kind not in took_place)
    if not total.curves:
        yield "nothing lived long enough for its growth to be judged"


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


def _round(servers: Servers, seed: int, number: int, seconds: float, total: Findings, report: Report) -> None:
    """Load, hurt and judge once; add what was found to the total."""
    found = Findings()
    with open_mixed_faults(servers, f"soak-{seed}", found, seed=seed, spared=SPARED, pace=REAL) as mixed:
        every_seconds = min(EVERY_SECONDS, seconds / SAMPLES_OF_A_SHORT_ROUND)
        growth = Growth(lambda: _lives(mixed), lambda: _sessions(mixed.pipeline))
        with repeated("growth", growth.look, every_seconds=every_seconds):
            mixed.run(plan(seed, seconds), seconds=seconds, orders=round(ORDERS_PER_SECOND * seconds), report=report)
        mixed.judge(report=report, minutes=True)
    lives = curves(growth.samples)
    found.culprits += grown(growth.samples)
    found.culprits = [f"round {number} (seed {seed}): {line}" for line in found.culprits]
    found.curves = {f"round {number}, {what}": series for what, series in lives.items()}
    found.faults = [
        {"at": round(number * ROUND_SECONDS + fault["at"], 1), "kind": fault["kind"]} for fault in found.faults
    ]
    total.add(found)
    report(
        f"round {number}: {found.orders['orders']:,} orders, {len(found.faults)} faults,"
        f" {len(found.voids)} found no moment, {'; '.join(found.culprits[:1]) or 'sound'}"
    )
    for what, series in lives.items():
        first, last = thirds(series)
        report(f"  {what}: {first:.0f}, then {last:.0f}")


def _lives(mixed: MixedFaults) -> list[Life]:
    """Return the processes to measure; what the proxies have seen is let go on the way."""
    mixed.harness.kafka.seen.clear()
    mixed.harness.postgres.seen.clear()
    return [
        Life(str(slot), slot.pid)
        for slot in mixed.pipeline.slots()
        if (slot.service, slot.number) in SPARED and slot.pid
    ]


def _sessions(pipeline: Pipeline) -> dict[str, int] | None:
    try:
        rows = pipeline.administer(
            "SELECT CAST(usename AS text), count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename LIKE '%_rw' GROUP BY usename"
        )
    except sa.exc.SQLAlchemyError:
        return None
    return {str(role): int(count) for role, count in rows}
