"""Render what the history holds: fault -> what must hold -> measured recovery -> proof. Markdown."""

import statistics
from collections.abc import Iterable, Sequence

from chaos.history import Result, Run

TREND_RUNS = 10
MUST_HOLD = {
    "kill": "one outcome per order, stock balanced, the next process of the slot goes on",
    "zombie": "another worker takes over; the one that wakes up changes nothing",
    "takeover": "the dead worker's partitions are served by another",
    "pipeline": "a second reader sees the same; everybody ends within 5 s with exit code 0",
    "mixed": "all rules over all orders; every recovery path taken",
    "planted": "caught by its own rule",
    "absent": "the unchanged product passes the same run",
}

NOT_PROMISED = """\
## What is not promised

In short; docs/guarantees.md has it whole. One e-mail per event: a crash between the mail server's answer and the mark
in the ledger repeats it, with the same Message-ID. The fate of a POST without a key that timed out: none or one order.
Order across partitions. Anything, once PostgreSQL loses what it committed."""


def render(runs: Sequence[Run]) -> str:
    """Return the report over the newest run of each subject; older ones count for the trend."""
    newest: dict[tuple[str, str], Run] = {}
    for run in runs:
        newest[run.tier, run.subject] = run
    latest = list(newest.values())
    parts = [
        _head(latest),
        _matrix(latest),
        _recovery(latest),
        _mixed(latest),
        _mutants(latest),
        NOT_PROMISED,
        _trend(runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(runs: Iterable[Run]) -> str:
    """Return one line: how many runs passed, failed, are void."""
    found = [run.result for run in runs]
    return ", ".join(f"{found.count(result)} {result}" for result in Result)


def _head(runs: Sequence[Run]) -> str:
    orders = sum(run.orders.get("orders", 0) for run in runs if _last_of_its_books(run))
    lines = ["# What the chaos suite found", ""]
    if not runs:
        return "\n".join([*lines, "No run is kept here yet: `make chaos`."])
    conditions = max(runs, key=lambda run: run.started).conditions
    commits = ", ".join([str(conditions.commit), *_other_commits(runs, conditions.commit)])
    versions = ", ".join(f"{name} {version}" for name, version in conditions.versions.items())
    lines += [
        f"{verdict(runs)}. {orders:,} orders judged in whole books.",
        "",
        f"Commit {commits}, {conditions.cores} cores, {versions}.",
        f"From {min(run.started for run in runs)} to {max(run.started for run in runs)}.",
        "",
        "A void run proves nothing: its fault did not fire, or the pipeline was not up. Each line can be had again:",
        "`pipeline chaos replay RUN`.",
    ]
    return "\n".join(lines)


def _other_commits(runs: Sequence[Run], newest: str | None) -> list[str]:
    """Return which tiers ran on another commit than the newest run, with that commit."""
    return sorted({f"{run.tier} {run.conditions.commit}" for run in runs if run.conditions.commit != newest})


def _last_of_its_books(run: Run) -> bool:
    return run.tier != "matrix" or run.subject.startswith("pipeline ")


def _matrix(runs: Sequence[Run]) -> str:
    mine = [run for run in runs if run.tier == "matrix"]
    if not mine:
        return ""
    rows = [
        (
            run.subject,
            "" if run.txn_open is None else "open" if run.txn_open else "closed",
            _must_hold(run.subject),
            _seconds(run.recovery_seconds),
            _seconds(run.stall_seconds),
            _proof(run),
        )
        for run in mine
    ]
    kills = sum(run.subject.endswith(" kill") and run.result is Result.PASSED for run in mine)
    zombies = sum(run.subject.endswith(" zombie") and run.result is Result.PASSED for run in mine)
    return _section(
        f"One fault at a time: {kills} kills, {zombies} zombies",
        ("fault", "Kafka transaction", "must hold", "next outcome", "readers held", "proof"),
        rows,
    )


def _recovery(runs: Sequence[Run]) -> str:
    kills = [run.recovery_seconds for run in runs if run.subject.endswith(" kill") and run.recovery_seconds]
    stalls = [run.stall_seconds for run in runs if run.stall_seconds]
    takeovers = [run.recovery_seconds for run in runs if run.subject.startswith("takeover") and run.recovery_seconds]
    if not kills:
        return ""
    rows = [("SIGKILL of the inventory worker to the slot's next outcome", *_spread(kills))]
    if takeovers:
        rows.append(("dead worker's partitions served by another, shipped time-outs", *_spread(takeovers)))
    if stalls:
        rows.append(("readers held up by the transaction of a killed worker", *_spread(stalls)))
    return _section("Recovery", ("what", "runs", "p50", "worst"), rows)


def _mixed(runs: Sequence[Run]) -> str:
    mine = [run for run in runs if run.tier in {"nemesis", "soak", "model"}]
    if not mine:
        return ""
    rows = []
    for run in mine:
        kinds = {str(fault["kind"]) for fault in run.faults}
        rows.append(
            (
                f"{run.tier}, seed {run.seed}",
                f"{len(run.faults)} of {len(kinds)} kinds" if run.faults else "",
                f"{run.orders.get('orders', run.orders.get('interleavings', 0)):,}",
                ", ".join(f"{path} {count}" for path, count in run.paths.items()),
                _proof(run),
            )
        )
    head = ("run", "faults", "orders or interleavings", "recovery paths taken", "proof")
    return _section("Mixed faults, and the model", head, rows)


def _mutants(runs: Sequence[Run]) -> str:
    mine = [run for run in runs if run.tier == "mutants"]
    if not mine:
        return ""
    planted = [run for run in mine if run.subject.endswith(" planted")]
    caught = sum(run.result is Result.PASSED for run in planted)
    rows = [(run.subject, _expected(run), f"{run.seconds:.0f} s", _proof(run)) for run in mine]
    title = f"Planted bugs: {caught} of {len(planted)} caught by their own rule"
    return _section(title, ("bug", "expected", "took", "proof"), rows)


def _trend(runs: Sequence[Run]) -> str:
    mine = [run for run in runs if run.tier == "nemesis"][-TREND_RUNS:]
    if len(mine) < 2:  # noqa: PLR2004 - one run shows no trend
        return ""
    rows = [
        (run.started, str(run.seed), run.result.value, f"{run.orders.get('orders', 0):,}", f"{run.seconds:.0f} s")
        for run in mine
    ]
    return _section("The last runs of mixed faults", ("when", "seed", "result", "orders", "took"), rows)


def _expected(run: Run) -> str:
    """Say what the bug does and which rule must catch it, or that nothing may break."""
    if run.subject.endswith(" planted") and "rule" in run.settings:
        return f"{run.settings.get('wrong', '')}: caught by {run.settings['rule']}"
    return _must_hold(run.subject)


def _must_hold(subject: str) -> str:
    words = subject.replace(",", " ").split()
    return next((text for word, text in MUST_HOLD.items() if word in words), "")


def _proof(run: Run) -> str:
    return f"{run.result}: `{run.id}`" + (f" ({run.why})" if run.why else "")


def _seconds(seconds: float | None) -> str:
    return "" if not seconds else f"{seconds:.2f} s"


def _spread(seconds: Sequence[float]) -> tuple[str, str, str]:
    return str(len(seconds)), f"{statistics.median(seconds):.2f} s", f"{max(seconds):.2f} s"


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])
