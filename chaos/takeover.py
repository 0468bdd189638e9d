"""A worker dies for good: how soon are its partitions served by another? With the time-outs that are shipped."""

import time
from contextlib import ExitStack
from datetime import UTC, datetime

from audit.errors import StoreDownError
from audit.readers.evidence import Evidence
from audit.rules.judge import Judgement
from audit.whole import audit
from chaos.history import Conditions, Result, Run, culprits_of, rules_of
from chaos.load import DirectLoad, Mix
from chaos.run.pipeline import Lane, VoidRunError
from chaos.run.servers import Ground
from chaos.run.watch import Watch

SUBJECT = "takeover with the shipped time-outs"
PARTITIONS = 4
SERVED_SECONDS_MAX = 30.0


def run(ground: Ground, *, seed: int, conditions: Conditions) -> Run:
    """Kill one of two workers and start nobody in its place; `recovery_seconds`: until all partitions are served."""
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    served: float | None = None
    judgement: Judgement | None = None
    void = ""
    try:
        served, judgement = _measure(ground, seed)
    except (VoidRunError, StoreDownError) as error:
        void = error.message
    culprits = culprits_of(judgement) if judgement is not None else []
    return Run(
        id=f"matrix-{seed}-takeover",
        tier="matrix",
        subject=SUBJECT,
        seed=seed,
        result=Result.VOID if void else Result.FAILED if culprits else Result.PASSED,
        why=void or "; ".join(culprits[:1]),
        started=started,
        seconds=round(time.monotonic() - began, 2),
        orders=dict(judgement.counts) if judgement else {},
        rules=rules_of(judgement) if judgement else {},
        culprits=culprits,
        recovery_seconds=None if served is None else round(served, 3),
        conditions=conditions,
    )


def _measure(ground: Ground, seed: int) -> tuple[float | None, Judgement]:
    with ExitStack() as opened:
        site = opened.enter_context(ground.site("takeover", partitions=PARTITIONS))
        lane = opened.enter_context(Lane(site, options={}))
        written = site.folder / "written.jsonl"
        lane.set_stock(Mix(seed=seed).shelves())
        dying, _heir = lane.start("inventory", 0), lane.start("inventory", 1)
        watch = opened.enter_context(Watch(site.settings))
        lane.wait_ready()

        def load(number: int) -> None:
            DirectLoad(site.settings, written).run(Mix(seed=seed + number, direct_orders=200))

        load(0)
        everywhere = frozenset(range(PARTITIONS))
        lane.wait(lambda: watch.all_partitions_after(0.0, everywhere) is not None, "every partition served")
        with lane.held(dying):
            moment = time.monotonic()
            lane.shoot(dying)
            load(1)
            lane.wait(
                lambda: watch.all_partitions_after(moment, everywhere) is not None,
                "every partition served by the other worker",
                seconds=SERVED_SECONDS_MAX,
            )
            served = watch.all_partitions_after(moment, everywhere)
            load(2)
            evidence = Evidence(
                written=written, logs=[kept.log for kept in lane.processes()], secrets=site.secrets, heads=site.heads
            )
            judgement = audit(
                site.settings, wait_seconds=SERVED_SECONDS_MAX, followers=False, restocked=False, evidence=evidence
            )
    return served, judgement
