"""What does the whole way cost, from POST to notified, with all processes on this machine?

- `sustained`: orders a second, from the first POST to the last notification, in turns with an empty Flask route that
  gunicorn serves with the same settings, so that a slow minute of the machine hits both
- `at_rate`: latencies in an open loop, and CPU time per order by process; first of all right after "ready", when all
  is cold
- `idle`: CPU time while nothing is asked for
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.http_load import ACCEPTED, Answer, Load
from onceloop.errors import ExitCode, ReportedError

FOLLOW_EVERY = 50
"""Each one that is followed asks a hundred times a second."""
COLD_SECONDS = 10.0
COLD_RATE = 100.0
SETTLE_SECONDS = 5.0
"""Between two turns, and before an idle look: what is on its way arrives."""
FOLLOWERS_SECONDS_MAX = 60.0


class WholeError(ReportedError):
    """The pipeline did not do what a measurement needs."""

    exit_code = ExitCode.UNAVAILABLE


class Arrivals(Protocol):
    """What a reader of committed records sees: order id -> when it came, in seconds since the epoch."""

    @property
    def decided(self) -> Mapping[str, float]:
        """When the outcome could be read."""

    @property
    def notified(self) -> Mapping[str, float]:
        """When it could be read that the customer was notified."""


class Stack(Protocol):
    """A whole pipeline that is up, and what is measured beside it."""

    port: int
    """Of the API."""
    skus: tuple[str, ...]
    """What can be ordered."""

    @property
    def arrivals(self) -> Arrivals:
        """What was decided and notified so far."""

    def cpu_seconds(self) -> Mapping[str, float]:
        """Return process -> CPU time so far, its children included."""

    def ask(self, load: Load) -> list[Answer]:
        """Do the load in a process of its own."""

    def empty_route(self) -> AbstractContextManager[int]:
        """Serve an empty route while the block runs; yields its port."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of many orders, in milliseconds."""

    p50: float
    p99: float
    most: float
    orders: int


@dataclass(frozen=True, slots=True)
class AtRate:
    """What one rate brought. `cpu_ms`: process -> milliseconds of CPU an order."""

    rate: float
    accepted: int
    refused: int
    answered: Latencies
    decided: Latencies
    notified: Latencies
    shown: Latencies
    cpu_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def cpu_ms_total(self) -> float:
        """Milliseconds of CPU an order, all processes of the pipeline."""
        return sum(self.cpu_ms.values())


@dataclass(frozen=True, slots=True)
class WholeTurn:
    """A turn of the pipeline and one of the empty route beside it, in orders (requests) a second."""

    pipeline: float
    accepted: float
    empty: float

    @property
    def ratio(self) -> float:
        """The pipeline's speed by that of the empty route."""
        return self.pipeline / self.empty


def latencies(seconds: Iterable[float]) -> Latencies:
    """Return median, 99th percentile and maximum; zeros for none."""
    known = sorted(1000 * each for each in seconds)
    if not known:
        return Latencies(0.0, 0.0, 0.0, 0)
    return Latencies(round(statistics.median(known), 1), round(_rank(known, 0.99), 1), round(known[-1], 1), len(known))


def _rank(known: Sequence[float], share: float) -> float:
    return known[min(len(known) - 1, int(share * len(known)))]


def sustained(stack: Stack, *, rounds: int, orders: int, report: Callable[[WholeTurn], None]) -> list[WholeTurn]:
    """Return the turns, pipeline and empty route alternately. Raises WholeError."""
    turns = []
    with stack.empty_route() as empty_port:
        for number in range(rounds):
            answers = stack.ask(Load(port=stack.port, orders=orders, skus=stack.skus, seed=number))
            _await_all(stack.arrivals.notified, answers)
            ids = [each.order_id for each in answers if each.order_id]
            began = min(each.due_at for each in answers)
            pipeline = len(ids) / (max(stack.arrivals.notified[each] for each in ids) - began)
            accepted = len(ids) / (max(each.answered_at for each in answers) - began)
            time.sleep(SETTLE_SECONDS)
            turns.append(WholeTurn(pipeline, accepted, _requests_per_second(stack, empty_port, orders)))
            report(turns[-1])
    return turns


def _requests_per_second(stack: Stack, port: int, orders: int) -> float:
    answers = stack.ask(Load(port=port, orders=orders, path="/empty", skus=stack.skus))
    if any(each.status != ACCEPTED for each in answers):
        raise WholeError("the empty route refused a request")
    began = min(each.due_at for each in answers)
    return len(answers) / (max(each.answered_at for each in answers) - began)


def at_rate(stack: Stack, rate: float, *, seconds: float) -> AtRate:
    """Return what an open loop of so many orders a second finds. Raises WholeError."""
    before = stack.cpu_seconds()
    load = Load(
        port=stack.port,
        orders=round(rate * seconds),
        rate=rate,
        skus=stack.skus,
        follow_every=FOLLOW_EVERY,
        seed=round(rate),
    )
    answers = stack.ask(load)
    _await_all(stack.arrivals.notified, answers)
    after = stack.cpu_seconds()
    placed = {each.order_id: each for each in answers if each.order_id}
    return AtRate(
        rate=rate,
        accepted=len(placed),
        refused=len(answers) - len(placed),
        answered=latencies(each.answered_at - each.due_at for each in placed.values()),
        decided=latencies(stack.arrivals.decided[order_id] - each.due_at for order_id, each in placed.items()),
        notified=latencies(stack.arrivals.notified[order_id] - each.due_at for order_id, each in placed.items()),
        shown=latencies(each.decided_at - each.due_at for each in placed.values() if each.decided_at is not None),
        cpu_ms={name: round(1000 * (after[name] - spent) / len(placed), 3) for name, spent in before.items()},
    )


def idle(stack: Stack, *, seconds: float) -> Mapping[str, float]:
    """Return process -> per cent of one core while nothing is asked for."""
    time.sleep(SETTLE_SECONDS)
    before, began = stack.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    after, took = stack.cpu_seconds(), time.monotonic() - began
    return {name: round(100 * (after[name] - spent) / took, 2) for name, spent in before.items()}


def _await_all(arrived: Mapping[str, float], answers: Sequence[Answer]) -> None:
    waiting = {each.order_id for each in answers if each.order_id}
    if not waiting:
        raise WholeError("no order was accepted")
    until = time.monotonic() + FOLLOWERS_SECONDS_MAX
    while waiting := {order_id for order_id in waiting if order_id not in arrived}:
        if time.monotonic() > until:
            raise WholeError(f"{len(waiting)} customers were not notified within {FOLLOWERS_SECONDS_MAX:.0f} s")
        time.sleep(0.05)
