"""Say how the connectors of a worker stand: running, or what stopped them and the way out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

RUNNING, FAILED = "RUNNING", "FAILED"
PATH = "/connectors?expand=status"
_LINE_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Connector:
    """One connector. `state` is the worst of its own and its tasks'; `why` the first line of what stopped it."""

    name: str
    state: str
    tasks: int
    running: int
    why: str = ""


def parse(text: str) -> tuple[Connector, ...]:
    """Return the connectors of a worker's answer to `PATH`, by name."""
    return tuple(_connector(name, each["status"]) for name, each in sorted(json.loads(text).items()))


def lines(connectors: Sequence[Connector], url: str) -> Iterator[str]:
    """Yield a line per connector; below one that failed, the way out."""
    for each in connectors:
        yield f"connector {each.name:<20} {each.state}  tasks {each.running}/{each.tasks}"
        if each.state == FAILED:
            restart = f"{url}/connectors/{each.name}/restart?includeTasks=true&onlyFailed=true"
            yield f"  error: {each.why or 'it said nothing'}"
            yield f"  way out: mend that, then: curl -X POST '{restart}' (or: pipeline provision)"


def _connector(name: str, status: dict[str, Any]) -> Connector:
    own, tasks = status["connector"], status["tasks"]
    states = [task["state"] for task in tasks]
    failed = next((part for part in (own, *tasks) if part["state"] == FAILED), None)
    waiting = next((state for state in (own["state"], *states) if state != RUNNING), RUNNING if states else "STARTING")
    return Connector(
        name,
        FAILED if failed else waiting,
        tasks=len(states),
        running=states.count(RUNNING),
        why=_why(failed.get("trace", "")) if failed else "",
    )


def _why(trace: str) -> str:
    """Return a trace's first line, and the innermost cause's where there is one: the first often says but little."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    line = " / ".join([*lines[:1], *causes[-1:]])
    return line if len(line) <= _LINE_CHARACTERS_MAX else f"{line[:_LINE_CHARACTERS_MAX]}..."
