"""Plant each bug, do what brings it to light, and see its own rule catch it; the product itself must pass the same.

A bug that only another rule catches counts as not caught: the rule that should have seen it is blind. Each run has a
pipeline of its own. A bug and the product run side by side, but where a server is hurt that both would use.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

from audit.errors import StoreDownError
from chaos.bugs.planted import BUGS, named
from chaos.bugs.planting import Bug
from chaos.history import Conditions, Result, Run, culprits_of, rules_of
from chaos.load import Mix
from chaos.run.pipeline import Lane, VoidRunError
from chaos.run.servers import Ground
from chaos.trials import ORDERS, OUTCOME_SECONDS_MAX, TRIALS, Scene

PARTITIONS = 2
IN_TIME_SHARE = 0.95

Rules = dict[str, tuple[int, int]]


def prove(
    ground: Ground, *, seed: int, only: Sequence[str] = (), report: Callable[[Run], None], conditions: Conditions
) -> list[Run]:
    """Do two runs per bug, planted and absent, and report each as it ends.

    Passed means for a planted bug that its own rule caught it, for an absent one that no rule was broken. `only` names
    the bugs to plant, none stands for all. Raises UnknownBugError.
    """
    done: list[Run] = []
    lock = threading.Lock()

    def play(bug: Bug, *, planted: bool) -> None:
        finished = _play(ground, bug, planted=planted, seed=seed, conditions=conditions)
        with lock:
            done.append(finished)
            report(finished)

    for bug in [named(name) for name in only] or BUGS:
        with ThreadPoolExecutor(1 if TRIALS[bug.name].alone else 2, "mutants") as pool:
            for run in [pool.submit(play, bug, planted=planted) for planted in (True, False)]:
                run.result()
    return done


def _play(ground: Ground, bug: Bug, *, planted: bool, seed: int, conditions: Conditions) -> Run:
    """Do one run."""
    subject = f"{bug.name} {'planted' if planted else 'absent'}"
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    trial, scene, void = TRIALS[bug.name], None, ""
    rules: Rules = {}
    culprits: list[str] = []
    orders: dict[str, int] = {}
    with ExitStack() as opened:
        try:
            site = opened.enter_context(ground.site(subject.replace(" ", "-"), partitions=PARTITIONS))
            for statement in bug.statements if planted else ():
                site.administer(statement)
            lane = opened.enter_context(Lane(site))
            mix = Mix(seed=seed, skus=trial.skus, units=trial.units)
            scene = Scene(lane, ground.kafka, opened, mutant=bug.name if planted else "", mix=mix)
            trial.hurt(scene)
            if _too_late(scene):
                # The books would be read only once the open transaction has timed out: by then all is in order.
                rules = {"L1": (ORDERS, scene.late or 0)}
                culprits = [f"L1 ({scene.late}x) no outcome within {OUTCOME_SECONDS_MAX:.0f} s"]
            else:
                judgement = scene.audit(followers=trial.followers, minutes=trial.minutes)
                rules, orders = rules_of(judgement), dict(judgement.counts)
                culprits = culprits_of(judgement) + ([] if planted else scene.unasked_deaths())
        except (VoidRunError, StoreDownError) as error:
            void = error.message
    why = void or verdict(bug, rules, culprits, planted=planted)
    return Run(
        id=f"mutants-{seed}-{subject.replace(' ', '-')}",
        tier="mutants",
        subject=subject,
        seed=seed,
        result=Result.VOID if void else Result.FAILED if why else Result.PASSED,
        why=why,
        settings={"bug": bug.name, "wrong": bug.wrong, "rule": bug.rule},
        started=started,
        seconds=round(time.monotonic() - began, 2),
        txn_open=scene.txn_open if scene is not None else None,
        faults=scene.faults if scene is not None else (),
        orders=orders,
        rules=rules,
        culprits=culprits,
        conditions=conditions,
    )


def verdict(bug: Bug, rules: Rules, culprits: Sequence[str], *, planted: bool) -> str:
    """Return what is wrong with these findings: not caught, or caught where there is nothing; empty if all is well."""
    if not planted:
        return "; ".join(culprits[:1])
    broken = [rule for rule, (_, times) in rules.items() if times]
    if bug.rule in broken:
        return ""
    return f"{bug.rule} did not see it; broken: {', '.join(broken) or 'no rule'}"


def _too_late(scene: Scene) -> bool:
    """Return True if more orders were late than L1 allows: the slowest of the quickest 95 in 100 counts."""
    return scene.late is not None and ORDERS - scene.late < IN_TIME_SHARE * ORDERS
