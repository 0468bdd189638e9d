"""Plant each bug, do what brings it to light, and see its own rule catch it; the product itself must pass the same.

A bug that only another rule catches counts as not caught: the rule that should have seen it is blind. Each run has a
pipeline of its own. A bug and the product run side by side, but where a server is hurt that both would use.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from chaos import lives
from chaos.bugs.planted import BUGS, named
from chaos.bugs.planting import Bug
from chaos.history import Run
from chaos.load import Mix
from chaos.run.findings import Findings, record
from chaos.run.pipeline import Servers
from chaos.trials import TRIALS

PARTITIONS = 2
CAME_THROUGH_SECONDS_MAX = 12.0

Rules = dict[str, tuple[int, int]]


def prove(servers: Servers, *, seed: int, only: Sequence[str] = (), report: Callable[[Run], None]) -> list[Run]:
    """Do two runs per bug, planted and absent, and report each as it ends.

    Passed means for a planted bug that its own rule caught it, for an absent one that no rule was broken. `only` names
    the bugs to plant, none stands for all. Raises UsageError.
    """
    done: list[Run] = []
    lock = threading.Lock()

    def play(bug: Bug, *, planted: bool) -> None:
        finished = _run(servers, bug, planted=planted, seed=seed)
        with lock:
            done.append(finished)
            report(finished)

    for bug in [named(name) for name in only] or BUGS:
        with ThreadPoolExecutor(1 if TRIALS[bug.name].alone else 2, "mutants") as pool:
            for run in [pool.submit(play, bug, planted=planted) for planted in (True, False)]:
                run.result()
    return done


def _run(servers: Servers, bug: Bug, *, planted: bool, seed: int) -> Run:
    """Do one run."""
    subject = f"{bug.name} {'planted' if planted else 'absent'}"
    trial = TRIALS[bug.name]

    def act(found: Findings) -> None:
        with servers.pipeline(subject.replace(" ", "-"), partitions=PARTITIONS) as pipeline:
            for statement in bug.statements if planted else ():
                pipeline.administer(statement)
            pipeline.bug = bug.name if planted else ""
            pipeline.stock(Mix(seed=seed, skus=trial.skus, units=trial.units))
            trial.hurt(pipeline, found)
            if found.culprits:
                return  # seen by the trial itself, of what is in order again by the time that the books are read
            judgement = pipeline.audit(
                wait_seconds=CAME_THROUGH_SECONDS_MAX, followers=trial.followers, minutes=trial.minutes
            )
            if not planted:
                found.culprits += lives.unasked_ends(pipeline.slots(), killed=found.killed, foreseen=trial.foreseen)
            found.judged(judgement)

    return record(
        act,
        tier="mutants",
        subject=subject,
        seed=seed,
        name=subject,
        settings={"bug": bug.name, "wrong": bug.wrong, "rule": bug.rule},
        wrong=lambda found: "" if found.voids else verdict(bug, found.rules, found.culprits, planted=planted),
    )


def verdict(bug: Bug, rules: Rules, culprits: Sequence[str], *, planted: bool) -> str:
    """Return what is wrong with these findings: not caught, or caught where there is nothing; empty if all is well."""
    if not planted:
        return "; ".join(culprits[:1])
    broken = [rule for rule, (_, times) in rules.items() if times]
    if bug.rule in broken:
        return ""
    return f"{bug.rule} did not see it; broken: {', '.join(broken) or 'no rule'}"
