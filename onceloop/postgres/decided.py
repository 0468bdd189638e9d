"""Decide records by a handler of the user's, committed at most once per key: the generic store, as a `Step`.

Effects in order, per part of a batch: BEGIN and read what is decided; call the handler for what is not; write key,
owner and returned records; COMMIT. When all parts are done, the loop publishes the stored bytes with the offsets. A
crash before a COMMIT leaves nothing of the part; a crash after it is answered by the rows: the handler is not called
again.

The owner rule: the first record of a key that is accepted owns it. It alone has the key's records published, now and on
every replay; any other record of the key moves its offset and publishes nothing.

What a handler raises undoes the part. The records before the culprit are decided, the culprit stands alone, the rest
follows; within a partition nothing overtakes it. A record is refused when the handler says so, when PostgreSQL rejects
its values, and when `onceloop.crashes` finds that it alone makes the handler raise. Its dead letter stands in a row of
its own, since a process that was slow may still be deciding it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import psycopg

from onceloop import failpoints, metrics, ownership
from onceloop.crashes import CRASHES_MAX, Crashes, unforeseen
from onceloop.dead_letter import dead_letter
from onceloop.errors import Busy, ContractError, Poison, ReportedError, Undecodable
from onceloop.handlers import HandlerRaised, Handling, Key, Refused
from onceloop.ownership import Found, Item, Row
from onceloop.pace import BATCH_SECONDS, TRANSACTION_SECONDS, Pace
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.decided_table import GUARDS, DecidedTable
from onceloop.postgres.guards import Guards
from onceloop.postgres.handler_errors import SlowHandlerError, meaning, slow_or
from onceloop.postgres.lending import lent
from onceloop.postgres.retry import rerun
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish, next_offsets
from onceloop.stored_records import pack

KEY_BYTES_MAX = 1024
"""An index of PostgreSQL takes 2704 bytes of a value."""
PAUSE_SECONDS = (0.5, 5.0)
LOOKED_AHEAD_MAX = 5


class Attempt(NamedTuple):
    """How far a part came: its first `done` records are decided. `handled`: so many by the handler just now."""

    done: int
    found: Found
    handled: int


class DecidedStep:
    """One handler and its table.

    `dead_letters`: input -> topic for its dead letters. `own`: turns records into what the handler sees. `records_max`:
    the largest batch. `surroundings`: exceptions of the handler that are never held against a record.
    """

    def __init__(
        self,
        handler: Handling,
        key: Key,
        *,
        connection: HotConnection,
        table: DecidedTable,
        service: str,
        dead_letters: Mapping[str, str],
        own: Callable[[InputRecord], InputRecord],
        records_max: int,
        surroundings: tuple[type[Exception], ...] = (),
    ) -> None:
        self.guards: Guards | None = None
        self._handler = handler
        self._key = key
        self._connection = connection
        self._table = table
        self._service = service
        self._dead_letters = dead_letters
        self._input_of = {letters: topic for topic, letters in dead_letters.items()}
        self._own = own
        self._surroundings = surroundings
        self._observer, self._clock = connection.runtime.observer, connection.runtime.clock
        self._pace = Pace(records_max)
        self._crashes = Crashes()
        self._names = count(1)
        self._pause_seconds, self._resume_at = PAUSE_SECONDS[0], 0.0

    @property
    def limit(self) -> int:
        """Return how many records the next batch may hold."""
        return self._pace.limit

    def decide(self, batch: Sequence[InputRecord]) -> Publish:
        """Return what the batch publishes; its decisions are committed in PostgreSQL when this returns.

        Raises Busy, Poison, Quarantine as a Step does; ContractError for a handler that breaks its contract;
        ReportedError for one that raises, if nothing says that a record is the reason.
        """
        self._admit(batch)
        found = self._work_off(batch)
        self._point("db.committed")
        records = [record for each in batch for record in found.get((each.partition, each.offset), ())]
        return Publish(records, next_offsets(batch))

    def pending(self) -> bool:
        """Return False: records alone lead to records."""
        return False

    def settled(self, published: Publish) -> None:
        """Note and count what is now visible; take more again."""
        assert self.guards is not None  # noqa: S101 - wired before the loop runs
        self.guards.note(published.offsets)
        for record in published.records:
            if record.is_dead_letter:
                self._observer.count(metrics.DEAD_LETTERS, self._input_of[record.topic])
        self._pause_seconds = PAUSE_SECONDS[0]
        self._pace.grow()

    def narrow(self) -> None:
        """Take less."""
        self._pace.narrow()

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Have these offsets proven before the next record is decided."""
        assert self.guards is not None  # noqa: S101 - wired before the loop runs
        self.guards.demand(stable)

    def ready(self) -> bool:
        """Return True if PostgreSQL answers, and a pause for what the handler needs is over."""
        return self._clock.monotonic() >= self._resume_at and self._connection.answers()

    def undecided(self, connection: psycopg.Connection, records: Sequence[InputRecord]) -> list[InputRecord]:
        """Return those of the records that have a key, and no decision."""
        items = [item for record in records if (item := self._item(record)).key]
        if not items:
            return []
        known = self._table.known(connection, items)
        return [item.record for item in items if not known.decides(item)]

    def _admit(self, batch: Sequence[InputRecord]) -> None:
        assert self.guards is not None  # noqa: S101 - wired before the loop runs
        try:
            self.guards.admit(batch)
        except Poison:
            self._pace.single()
            raise

    def _work_off(self, batch: Sequence[InputRecord]) -> Found:
        """Decide all of the batch, part by part, in order.

        Raises Busy if the handler raised for a record and it is not known yet why, Poison if it is too slow.
        """
        found: Found = {}
        waiting: Busy | None = None
        items = [self._item(record) for record in batch]
        parts = deque((part, False) for part in self._parted(items))
        until = self._clock.monotonic() + BATCH_SECONDS
        while parts:
            part, raised_before = parts.popleft()
            if self._clock.monotonic() > until:
                raise Poison(f"the handler is too slow for {len(batch)} records in {BATCH_SECONDS:.0f} s")
            if not raised_before:
                self._crashes.turn()
            try:
                attempt = self._attempt(part)
            except HandlerRaised as raised:
                if len(part) > 1:
                    self._report(part, raised.error)
                    parts.extendleft((each, True) for each in reversed(ownership.split(part, raised.index)))
                    continue
                try:
                    found |= self._judge(part[0], raised.error, behind=items)
                except Busy as busy:
                    waiting = busy
                    held = part[0].record.partition
                    kept = (([i for i in each if i.record.partition != held], before) for each, before in parts)
                    parts = deque((each, before) for each, before in kept if each)
                continue
            found |= attempt.found
            self._crashes.passed(attempt.handled, at=part[0].coordinate if len(part) == 1 else None)
            if attempt.done < len(part):
                parts.appendleft((part[attempt.done :], raised_before))
        if waiting:
            raise waiting
        return found

    def _parted(self, items: list[Item]) -> list[list[Item]]:
        """Return the items in order, those that are known for trouble each by itself."""
        parts: list[list[Item]] = [[]]
        known = self._crashes.known
        for item in items:
            if item.trouble is not None or (known and item.coordinate in known):
                parts += [[item], []]
            else:
                parts[-1].append(item)
        return [part for part in parts if part]

    def _attempt(self, part: list[Item]) -> Attempt:
        """Decide a part in a transaction of its own. Raises HandlerRaised, Busy, ContractError."""
        if (trouble := part[0].trouble) is not None:
            raise HandlerRaised(trouble, 0)
        try:
            return rerun(lambda connection: self._decide(connection, part), self._connection, guards=GUARDS)
        except Poison as poison:
            raise HandlerRaised(poison, None) from poison
        except SlowHandlerError as slow:
            self._pace.single()
            if len(part) == 1:
                raise self._too_slow(part[0].record) from slow
            raise HandlerRaised(slow, None) from slow

    def _decide(self, connection: psycopg.Connection, part: Sequence[Item], *, keep: bool = True) -> Attempt:
        """Return how far the part came, committed in PostgreSQL; with `keep` False nothing of it is."""
        assert self.guards is not None  # noqa: S101 - wired before the loop runs
        self.guards.insist()
        name = f"{os.getpid()}.{next(self._names)}"
        started = self._clock.monotonic()
        try:
            known = self._table.begin(connection, part, name=name)
            known.refuse_repeated(part)
            self._point("db.read")
            fresh = ownership.undecided(part, known)
            outputs = self._handled(connection, fresh) if fresh else []
            rows = [
                Row(item.key, item.coordinate, _packed(records), refused=False)
                for item, records in zip(fresh, outputs, strict=False)
            ]
            if keep:
                self._table.commit(connection, rows, name=name)
        except HandlerRaised as raised:
            index = None if raised.index is None else part.index(fresh[raised.index])
            raise HandlerRaised(raised.error, index) from raised
        except psycopg.Error as error:
            raise slow_or(error, self._clock.monotonic() - started) from error
        finally:
            self._connection.recover()  # nothing to leave after a COMMIT
        done = len(part) if len(outputs) == len(fresh) else part.index(fresh[len(outputs)])
        new = {row.owner: records for row, records in zip(rows, outputs, strict=True)}
        return Attempt(done, new | ownership.replayed(part[:done], known), len(outputs))

    def _handled(self, connection: psycopg.Connection, fresh: Sequence[Item]) -> list[tuple[OutputRecord, ...]]:
        started = self._clock.monotonic()
        try:
            with lent(connection):
                outputs = self._handler(
                    [self._own(item.record) for item in fresh],
                    connection,
                    enough=lambda: self._clock.monotonic() - started >= TRANSACTION_SECONDS,
                )
            _check_deferred(connection, len(fresh))
        except HandlerRaised as raised:
            meant = meaning(raised, self._clock.monotonic() - started, self._surroundings)
            if isinstance(meant, Busy) and raised.index:
                raise  # the records before it are decided first, or an outage now and then would decide none
            raise self._later(meant) from raised.error
        self._point("handled")
        self._pace.measured(len(outputs), self._clock.monotonic() - started)
        return outputs

    def _judge(self, item: Item, error: Exception, *, behind: Sequence[Item]) -> Found:
        """Return the dead letter of a record that raised alone, or what it publishes after all.

        Raises Busy to try it again after a pause, and ReportedError if nothing says that the record is the reason.
        """
        if isinstance(error, Refused):
            return self._refuse(item, Undecodable("refused", str(error)))
        if isinstance(error, Poison):
            return self._twice(item, error)
        at = item.coordinate
        if (crashes := self._crashes.met(at)) < CRASHES_MAX:
            self._observer.log("error", "record.raised", **_place(item.record), times=crashes, exc_info=error)
            raise self._later(Busy(f"{item.record.partition} at {item.record.offset} raised {type(error).__name__}"))
        if not self._crashes.stands_out(at) and not self._others_go_through(item, behind):
            raise self._unexplained(item.record, error) from error
        poison = unforeseen(error)
        found = self._refuse(item, Undecodable(poison.error_class, str(poison)))
        self._crashes.forget(at)
        return found

    def _twice(self, item: Item, poison: Poison) -> Found:
        """Try once more: what rejected the record may have been of that moment."""
        if item.trouble is None:
            try:
                return self._attempt([item]).found
            except HandlerRaised as raised:
                if not isinstance(raised.error, Poison):
                    return self._judge(item, raised.error, behind=())
        return self._refuse(item, Undecodable(poison.error_class, str(poison)))

    def _others_go_through(self, culprit: Item, items: Sequence[Item]) -> bool:
        """Have the handler work on records behind this one, keeping nothing of it, until one goes through."""
        at = culprit.record
        behind = [i for i in items if i.record.partition == at.partition and i.record.offset > at.offset]
        return any(self._goes_through(item) for item in behind[:LOOKED_AHEAD_MAX])

    def _goes_through(self, item: Item) -> bool:
        if item.trouble is not None:
            return False
        try:
            tried = rerun(lambda connection: self._decide(connection, [item], keep=False), self._connection)
        except (HandlerRaised, Poison, SlowHandlerError):
            return False
        return tried.handled == 1

    def _refuse(self, item: Item, cause: Undecodable) -> Found:
        """Return the record's dead letter, or what was decided for its key meanwhile."""
        record = item.record
        letter = dead_letter(record, cause, topic=self._dead_letters[record.partition.topic])
        self._observer.log(
            "warning", "record.dead_lettered", **_place(record), error_class=cause.error_class, reason=cause.reason
        )
        self._point("dlq.isolated")
        if not item.key:
            return {item.coordinate: (letter,)}
        return rerun(lambda connection: self._keep_refusal(connection, item, letter), self._connection, guards=GUARDS)

    def _keep_refusal(self, connection: psycopg.Connection, item: Item, letter: OutputRecord) -> Found:
        name = f"{os.getpid()}.{next(self._names)}"
        known = self._table.begin(connection, [item], name=name)
        known.refuse_repeated([item])
        fresh = ownership.undecided([item], known)
        rows = [Row(item.key, item.coordinate, pack([letter]), refused=True)] if fresh else []
        self._table.commit(connection, rows, name=name)
        return {item.coordinate: (letter,)} if fresh else ownership.replayed([item], known)

    def _item(self, record: InputRecord) -> Item:
        """Return the record with its key. Raises Busy, and what `meaning` says of what the key function raised."""
        try:
            key = self._key(self._own(record))
            if isinstance(key, str):
                key = key.encode()
        except UnicodeEncodeError as error:
            return Item(record, b"", Poison(f"a key that is no Unicode text: {error.reason}", error_class="key"))
        except Exception as error:
            meant = meaning(HandlerRaised(error, 0), 0.0, self._surroundings)
            if isinstance(meant, HandlerRaised):
                return Item(record, b"", meant.error)
            raise self._later(meant) from error
        if not key:
            return Item(record, b"", Poison("no key: the key function returns nothing for it", error_class="key"))
        if not isinstance(key, bytes):  # of one record, if others go through
            return Item(record, b"", TypeError(f"the key function returned {type(key).__name__}, not bytes or text"))
        if len(key) > KEY_BYTES_MAX:
            return Item(record, b"", Poison(f"a key of {len(key)} bytes, {KEY_BYTES_MAX} at most", error_class="key"))
        return Item(record, key)

    def _later(self, error: Exception) -> Exception:
        """Return it; Busy has the batch again after a pause, which grows to 5 s until something is published."""
        if isinstance(error, Busy):
            self._resume_at = self._clock.monotonic() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, PAUSE_SECONDS[1])
        return error

    def _too_slow(self, record: InputRecord) -> ContractError:
        return ContractError(
            f"the handler needs too long for one record, {record.partition.topic}[{record.partition.number}] at"
            f" {record.offset}: PostgreSQL ends a statement after 5 s, a transaction or a pause in one after 10 s",
            cure="do the slow part before this topic, in a service of its own, or make it faster; nothing is lost",
        )

    def _unexplained(self, record: InputRecord, error: Exception) -> ReportedError:
        return ReportedError(
            f"the handler raised {type(error).__name__} {CRASHES_MAX} times for {record.partition.topic}"
            f"[{record.partition.number}] at {record.offset}, and no other record has gone through since",
            cure="read record.raised in the log and mend the handler; if the record is the reason, it becomes a dead"
            " letter as soon as another one goes through",
        )

    def _report(self, part: Sequence[Item], error: Exception) -> None:
        self._observer.log("warning", "batch.raised", records=len(part), error=type(error).__name__)

    def _point(self, name: str) -> None:
        failpoints.point(f"{self._service}:{name}")


def _check_deferred(connection: psycopg.Connection, records: int) -> None:
    """Have deferred constraints checked where the handler's work can still be undone. Raises HandlerRaised."""
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        raise HandlerRaised(error, 0 if records == 1 else None) from error


def _packed(records: Iterable[OutputRecord]) -> bytes:
    try:
        return pack(records)
    except (TypeError, ValueError, AttributeError) as error:
        raise ContractError(
            f"the handler returned a record that cannot be stored: {error}",
            cure="key and value are bytes or None; headers are pairs of a text and bytes or None",
        ) from error


def _place(record: InputRecord) -> dict[str, object]:
    return {"topic": record.partition.topic, "partition": record.partition.number, "offset": record.offset}
