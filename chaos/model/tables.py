"""The database: stock and decisions behind the same two functions as `decision_store`, with its constraints.

Semantics: one transaction per `record`, all or nothing; the primary key of `decision`, CHECK (available >= 0) and the
row count of the late lock refuse what another worker was faster with (exactly-once.md, section 7). A connection that is
lost at COMMIT leaves open whether it committed, also later; a warning says the standby may not have it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg

from chaos.model.scheduler import Scheduler
from inventory_service.core.rule import Holding
from inventory_service.io.decision_store import NewDecision, Snapshot
from onceloop.records import CommitPoint, Partition
from onceloop.runtime import Runtime

REJECTED_SKU = "a sku that the database rejects"


class Duplicate(psycopg.errors.UniqueViolation):
    """A unique index of `decision` says that the order is decided, or that the customer's turn is taken."""

    @property
    def diag(self) -> Any:
        """Name the constraint; a hand-made error has no diagnosis of its own."""
        return SimpleNamespace(constraint_name=self.args[0], message_primary="duplicate key")


@dataclass(slots=True)
class Tables:
    """All rows. `unbalanced` names the first commit after which S6 did not hold."""

    on_hand: Mapping[str, int]
    available: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, NewDecision] = field(default_factory=dict)
    starts: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    progress: dict[Partition, int] = field(default_factory=dict)
    unbalanced: str = ""
    down: bool = False

    def __post_init__(self) -> None:
        self.available = dict(self.on_hand)

    def commit(self, new: Sequence[NewDecision], replayed: Collection[str], taken: Mapping[str, int]) -> None:
        """Do what one transaction does. Raises psycopg.Error; then nothing of it happened."""
        if any(row.decision.order_id in self.decisions for row in new):
            raise Duplicate("decision_pkey")
        if any(row.turn and row.turn in {other.turn for other in self.decisions.values()} for row in new):
            raise Duplicate("decision_turn")
        if any(line.sku == REJECTED_SKU for row in new for line in row.lines):
            raise psycopg.errors.NumericValueOutOfRange("rejected")
        if any(sku not in self.available for sku in taken):
            raise psycopg.errors.DivisionByZero("a stock row is missing")
        if any(self.available[sku] < units for sku, units in taken.items()):
            raise psycopg.errors.DivisionByZero("available would be negative")
        assert all(order_id in self.decisions for order_id in replayed)  # noqa: S101 - rows are never deleted
        for sku, units in taken.items():
            self.available[sku] -= units
        for row in new:
            self.decisions[row.decision.order_id] = row
        self._balance()

    def history(self, user_ids: Collection[str]) -> tuple[Mapping[Holding, int], Mapping[str, int]]:
        """Return what these customers hold, and the highest turn of each that has one."""
        held: Counter[Holding] = Counter()
        turns: dict[str, int] = {}
        for row in self.decisions.values():
            if row.turn is None or row.turn.user_id not in user_ids:
                continue
            turns[row.turn.user_id] = max(row.turn.number, turns.get(row.turn.user_id, 0))
            if row.decision.reserved:
                held.update({Holding(row.turn.user_id, sku): quantity for sku, quantity in row.lines})
        return held, turns

    def reserved(self, sku: str) -> int:
        """Return how many units decisions hold."""
        return sum(
            line.quantity
            for row in self.decisions.values()
            if row.decision.reserved
            for line in row.lines
            if line.sku == sku
        )

    def _balance(self) -> None:
        for sku, on_hand in self.on_hand.items():
            left, reserved = self.available[sku], self.reserved(sku)
            if (left < 0 or left + reserved != on_hand) and not self.unbalanced:
                self.unbalanced = f"{sku}: {on_hand} on hand, but {left} available and {reserved} reserved"


class ModelConnection:
    """Stands for `HotConnection` and for what it hands out. `late` takes a COMMIT that arrives some other time."""

    def __init__(self, tables: Tables, runtime: Runtime, scheduler: Scheduler, late: list[tuple[str, Any]]) -> None:
        self.runtime = runtime
        self.warned = False
        self.opened = 0
        self.rough = 0.0
        self._open = False
        self._tables = tables
        self._scheduler = scheduler
        self._late = late

    def get(self) -> "ModelConnection":
        """Return a connection. Raises psycopg.OperationalError while the server is away."""
        self._scheduler.alive()
        if self._tables.down:
            self._scheduler.step("db away")
            raise psycopg.OperationalError("connection refused")
        self.opened += not self._open
        self._open = True
        return self

    def drop(self) -> None:
        """Forget the connection, and what the server warned of on it."""
        self.warned = self._open = False

    def recover(self) -> None:
        """Leave a failed transaction."""

    def answers(self) -> bool:
        """Return True if the server is there."""
        self._scheduler.step("db asked")
        return not self._tables.down

    def read(self, *, skus: Collection[str], order_ids: Collection[str], user_ids: Collection[str]) -> Snapshot:
        """Return stock, decisions and history as they are, each statement with a snapshot of its own."""
        self._scheduler.step("db reading")
        self._suffer()
        available = {sku: self._tables.available[sku] for sku in sorted(skus) if sku in self._tables.available}
        self._scheduler.step("db read stock")
        rows = self._tables.decisions
        known = {one: rows[one].decision for one in sorted(order_ids) if one in rows}
        if not user_ids:
            return Snapshot(available, known)
        self._scheduler.step("db read decisions")
        return Snapshot(available, known, *self._tables.history(user_ids))

    def record(self, *, new: Sequence[NewDecision], replayed: Collection[str], taken: Mapping[str, int]) -> None:
        """Commit decisions and stock, or learn that it failed, or not learn what became of it."""
        self._scheduler.step("db sending")
        self._suffer()
        transaction = partial(self._tables.commit, list(new), list(replayed), dict(taken))
        if self._scheduler.random.random() >= self.rough:
            transaction()
            self._scheduler.step("db answered")
            return
        match self._scheduler.random.randrange(3):
            case 0:
                transaction()
                self.warned = True
                self._scheduler.step("db warned")
            case 1:
                transaction()
                self._lose("db answer lost")
            case _:
                self._late.append(("db commit", partial(_unheard, transaction)))
                self._lose("db commit held")

    def note(self, committed: Mapping[Partition, CommitPoint]) -> None:
        """Keep committed offsets, unless higher ones are known."""
        self._scheduler.step("db noting")
        for at, point in committed.items():
            self._tables.progress[at] = max(point.offset, self._tables.progress.get(at, 0))

    def noted(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return what is known of these partitions."""
        self._scheduler.step("db asked for progress")
        return {at: self._tables.progress[at] for at in sorted(partitions) if at in self._tables.progress}

    def decided(self, order_ids: Collection[str]) -> set[str]:
        """Return those of these orders that have a decision."""
        self._scheduler.step("db asked for decisions")
        return self._tables.decisions.keys() & set(order_ids)

    def count_start(self, partition: Partition, offset: int) -> int:
        """Return how many processes have begun at this offset."""
        self._scheduler.step("start counting")
        before, starts = self._tables.starts.get(partition, (-1, 0))
        starts = starts + 1 if before == offset else 1
        self._tables.starts[partition] = (offset, starts)
        return starts

    def take_start_back(self, partition: Partition) -> None:
        """Count one process less."""
        self._scheduler.alive()
        offset, starts = self._tables.starts[partition]
        self._tables.starts[partition] = (offset, max(starts - 1, 1))

    def _suffer(self) -> None:
        if self._tables.down:
            self._lose("db gone")
        if self._scheduler.random.random() >= self.rough:
            return
        match self._scheduler.random.randrange(3):
            case 0:
                self._scheduler.step("db deadlock")
                raise psycopg.errors.DeadlockDetected("deadlock")
            case 1:
                self._scheduler.step("db exhausted")
                raise psycopg.errors.TooManyConnections("too many connections")
            case _:
                self._lose("db connection lost")

    def _lose(self, what: str) -> None:
        self._scheduler.step(what)
        raise psycopg.OperationalError("server closed the connection unexpectedly")


def _unheard(transaction: Callable[[], None]) -> bool:
    """Commit with no caller waiting for the answer; return whether it worked."""
    try:
        transaction()
    except psycopg.Error:
        return False
    return True
