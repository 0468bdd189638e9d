"""What a run was and how it ended, one JSON line each, appended: `<folder>/<tier>.jsonl`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from audit.rules.judge import Judgement


class Result(StrEnum):
    """How a run ended."""

    PASSED = "passed"
    FAILED = "failed"
    VOID = "void"
    """Its fault did not fire, or the pipeline was not up: it proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What another run must share to be compared with this one."""

    commit: str | None
    """`-dirty` behind it if files differ."""
    cores: int
    versions: Mapping[str, str]


UNKNOWN = Conditions(commit=None, cores=0, versions={})
"""Of a run that is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a tier. Times are seconds unless they say otherwise."""

    id: str
    """Names the run for `pipeline chaos replay`: tier, subject and seed, for example `nemesis-42`."""
    tier: str
    """matrix, nemesis, mutants, model or soak."""
    subject: str
    """What was done: `inventory:db.committed kill`, or `mixed faults`."""
    seed: int
    result: Result
    why: str = ""
    """Why it failed or is void; empty if it passed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a replay needs besides the seed."""
    started: str
    """UTC, ISO 8601."""
    seconds: float
    txn_open: bool | None = None
    faults: Sequence[Mapping[str, Any]] = ()
    """What was done when: at least `at` (seconds from the start), `kind`, and what its evidence says."""
    orders: Mapping[str, int] = field(default_factory=dict)
    """ok, fail and info requests; distinct orders judged; outcomes by verdict."""
    rules: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Rule -> how many things were judged, how many broke it."""
    culprits: Sequence[str] = ()
    """The first violation of each broken rule, with its order's way."""
    recovery_seconds: float | None = None
    """From the kill to the first outcome after it."""
    stall_seconds: float | None = None
    """How long readers were held up by the open transaction that the kill left."""
    paths: Mapping[str, int] = field(default_factory=dict)
    """Recovery path -> how often it was taken."""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What was measured of what lives long -> one value a minute."""
    conditions: Conditions = UNKNOWN


def rules_of(judgement: Judgement) -> dict[str, tuple[int, int]]:
    """Return what each rule judged and found broken."""
    return {ruling.invariant: (ruling.judged, ruling.broken) for ruling in judgement.rulings}


def culprits_of(judgement: Judgement) -> list[str]:
    """Return one line per broken rule: how often, and the first culprit with its way."""
    lines = []
    for ruling in judgement.rulings:
        for culprit in ruling.examples[:1]:
            way = " | ".join(judgement.paths.get(culprit.order_id, ()))
            order = f"order {culprit.order_id}: " if culprit.order_id else ""
            lines.append(f"{ruling.invariant} ({ruling.broken}x) {order}{culprit.what}{' | ' + way if way else ''}")
    return lines


def append(folder: Path, run: Run) -> Path:
    """Write the run behind those of its tier; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.tier}.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run), separators=(",", ":")) + "\n")
    return path


def read(folder: Path) -> list[Run]:
    """Return the runs of all tiers, oldest first within a tier."""
    return [
        _run(json.loads(line))
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def _run(line: dict[str, Any]) -> Run:
    return Run(**{**line, "result": Result(line["result"]), "conditions": Conditions(**line["conditions"])})
