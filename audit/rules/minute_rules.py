"""Rules over the minutes: S12. Pure.

Nothing is waited for: the metadata beside the committed offsets says, per input partition, which records are accounted
for (those below p) and which minutes are closed (those that end at or before e). Of these everything must be there, to
the order, and nothing more; the rest is still open, and judged later. The revision of a total says which partials it is
the sum of. So a running pipeline is judged as strictly as one at rest.

Where all minutes were waited for, nothing of that is believed: the totals must be what the decisions give.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from audit.books import Books, Counting, Outcome, Partial, Total, Verdict
from audit.rules.order_rules import misfits
from audit.rules.retention import hidden
from audit.rules.rule import Harm, Violation
from audit.terms import Coordinate, Spot, Sums, below
from common.topics import (
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    METRICS,
    METRICS_PARTIALS,
    METRICS_TOTALS,
    MINUTE_VOLUMES,
    dead_letter_topic,
)

MINUTE_MS = 60_000
OUTCOMES = (INVENTORY_RESERVED, INVENTORY_FAILED)
LETTERS = {topic.name: dead_letter_topic(topic, METRICS).name for topic in OUTCOMES}
REFUSED = dead_letter_topic(METRICS_PARTIALS, METRICS_TOTALS).name


def minutes_counted(books: Books) -> Iterator[Violation]:
    """S12: each closed minute is counted once per partition, to the order; its total is the sum of its partials."""
    yield from _closed_once(books)
    yield from misfits(books, METRICS_PARTIALS.name, MINUTE_VOLUMES.name)
    yield from _partials_are_the_records(books)
    yield from _totals_are_the_partials(books)
    yield from _totals_are_the_decisions(books)
    yield from _overdue(books)


def uncounted(events: Iterable[Outcome], counting: Mapping[Spot, Counting]) -> Iterator[Outcome]:
    """Yield the events that no published count covers."""
    nothing = Counting(0, 0)
    for event in events:
        stands = counting.get(event.at.spot, nothing)
        if event.offset >= stands.read_to or event.minute + MINUTE_MS > stands.closed_to:
            yield event


def name_of(minute_ms: int) -> str:
    """Return the minute since the epoch as it can be looked up with `date -u -d @...`."""
    return f"minute @{minute_ms // 1000}"


def _closed_once(books: Books) -> Iterator[Violation]:
    in_time = Counter((partial.source, partial.minute) for partial in books.partials if not partial.late)
    for (source, minute), count in in_time.items():
        if count > 1:
            yield Violation(f"{source.topic} {source.partition} closed {name_of(minute)} {count}x", harm=Harm.DOUBLED)


def _partials_are_the_records(books: Books) -> Iterator[Violation]:
    """Compare, per partition and minute, what is published of the records below p with these records.

    Where a partition has lost its head, more may have been counted than is left; over all such partitions no more than
    the decisions whose events are gone.
    """
    found, expected = _published(books), _recorded(books)
    surplus: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for spot, minute in sorted(found.keys() | expected.keys()):
        summed, there = found.get((spot, minute), (0, 0, 0)), expected.get((spot, minute), (0, 0, 0))
        if summed == there:
            continue
        if books.head(spot) and all(more >= 0 for more in _minus(summed, there)):
            _add(surplus[minute], *_minus(summed, there))
            continue
        yield Violation(
            f"{spot.topic} {spot.partition}, {name_of(minute)}: {_said(summed)} counted, {_said(there)} on the topic",
            harm=_harm(summed, there),
        )
    gone = _decided_of_trimmed(books)
    for minute, more in sorted(surplus.items()):
        if gone is not None and any(each < 0 for each in _minus(gone.get(minute, (0, 0, 0)), _sums(more))):
            counted, decided = _said(_sums(more)), _said(gone.get(minute, (0, 0, 0)))
            what = f"{name_of(minute)}: {counted} counted beyond what the topics still hold, {decided} decided of it"
            yield Violation(what, harm=Harm.DOUBLED)


def _decided_of_trimmed(books: Books) -> dict[int, Sums] | None:
    """Return what was decided, per minute of placing, of orders whose event is gone; None if a time is unknown."""
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for order_id, decision in hidden(books):
        status = books.statuses.get(order_id)
        if status is None or not status.placed_at:
            return None
        reserved = decision.verdict is Verdict.RESERVED
        units = decision.units if reserved else 0
        _add(sums[status.placed_at // MINUTE_MS * MINUTE_MS], reserved, not reserved, units)
    return {minute: _sums(each) for minute, each in sums.items()}


def _published(books: Books) -> dict[tuple[Spot, int], Sums]:
    sums: dict[tuple[Spot, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for partial in books.partials:
        counted = books.counting.get(partial.source)
        if counted is not None and partial.until <= counted.read_to and partial.minute + MINUTE_MS <= counted.closed_to:
            _add(sums[partial.source, partial.minute], partial.reserved, partial.failed, partial.units)
    return {key: _sums(each) for key, each in sums.items()}


def _recorded(books: Books) -> dict[tuple[Spot, int], Sums]:
    sums: dict[tuple[Spot, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for key, remembered in books.recorded.items():
        _add(sums[key], *remembered)
    open_yet = {event.at for event in uncounted(_countable(books), books.counting)}
    for event in _countable(books):
        if event.at not in open_yet and not below(event.at, books.recorded_to):
            reserved = event.verdict is Verdict.RESERVED
            _add(sums[event.at.spot, event.minute], reserved, not reserved, event.units if reserved else 0)
    return {key: _sums(each) for key, each in sums.items() if any(each)}


def _countable(books: Books) -> Iterator[Outcome]:
    """Yield the outcomes that were not put aside as dead letters of the metrics."""
    aside = {letter.source for letter in books.dead_letters if letter.at.topic in LETTERS.values()}
    for group in books.outcomes.values():
        for event in group:
            if event.at not in aside:
                yield event


def _totals_are_the_partials(books: Books) -> Iterator[Violation]:
    """Each total with revision k is the sum of the first k partials; what was read has its total."""
    trimmed = books.trimmed(METRICS_PARTIALS.name)
    refused = {letter.source for letter in books.dead_letters if letter.at.topic == REFUSED}
    parts: dict[int, list[Partial]] = defaultdict(list)
    for partial in books.partials:
        if Coordinate(METRICS_PARTIALS.name, 0, partial.offset) not in refused:
            parts[partial.minute].append(partial)
    last: dict[int, Total] = {}
    for total in books.totals:
        if total.minute in last and total.revision <= last[total.minute].revision:
            yield Violation(f"{name_of(total.minute)}: revision {total.revision} again", harm=Harm.DOUBLED)
        last[total.minute] = total
    complete = {minute for minute, total in last.items() if not trimmed or total.revision == len(parts[minute])}
    for total in books.totals:
        if total.minute in complete:
            yield from _faults_of(total, parts[total.minute][: total.revision])
    for minute, partials in parts.items():
        read = sum(partial.offset < books.added_to for partial in partials)
        if read > (last[minute].revision if minute in last else 0):
            yield Violation(f"{name_of(minute)}: {read} partials were read, but its total has fewer", harm=Harm.LOST)


def _faults_of(total: Total, parts: list[Partial]) -> Iterator[Violation]:
    if len(parts) < total.revision:
        yield Violation(f"{name_of(total.minute)}: revision {total.revision}, but {len(parts)} partials")
        return
    sums = (sum(part.reserved for part in parts), sum(part.failed for part in parts), sum(part.units for part in parts))
    if (total.reserved, total.failed, total.units) != sums or total.orders != sums[0] + sums[1]:
        totalled = _said((total.reserved, total.failed, total.units))
        yield Violation(
            f"{name_of(total.minute)}, revision {total.revision}: {totalled}, its partials say {_said(sums)}"
        )
    if total.late != sum(part.late for part in parts):
        yield Violation(f"{name_of(total.minute)}, revision {total.revision}: {total.late} late, its partials differ")


def _totals_are_the_decisions(books: Books) -> Iterator[Violation]:
    """Once all minutes are over, the last totals are what the decisions give, whatever the metrics say of it."""
    if not books.minutes_over or (gone := _decided_of_trimmed(books)) is None:
        return
    last = {total.minute: (total.reserved, total.failed, total.units) for total in books.totals if total.revision}
    expected = _decided(books)
    # What was counted of orders whose events are gone, and before the topic of totals lost its head, is unknown.
    minutes = (last.keys() if books.trimmed(MINUTE_VOLUMES.name) else last.keys() | expected.keys()) - gone.keys()
    for minute in sorted(minutes):
        published, there = last.get(minute, (0, 0, 0)), expected.get(minute, (0, 0, 0))
        if published != there:
            yield Violation(
                f"{name_of(minute)}: {_said(published)} in its total, {_said(there)} decided",
                harm=_harm(published, there),
            )


def _decided(books: Books) -> dict[int, Sums]:
    """Sum up the decision rows per minute in which their orders were placed, as the event in the row says."""
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    events = {(event.order_id, event.digest): event for event in _countable(books)}
    for order_id, decision in books.decisions.items():
        event = events.get((order_id, decision.digest))
        if event is not None:
            reserved = decision.verdict is Verdict.RESERVED
            _add(sums[event.minute], reserved, not reserved, event.units if reserved else 0)
    return {minute: _sums(each) for minute, each in sums.items()}


def _overdue(books: Books) -> Iterator[Violation]:
    """What was on the topic long ago, in a minute that ended long ago, is counted."""
    due = (
        event
        for event in _countable(books)
        if below(event.at, books.overdue)
        and event.minute + MINUTE_MS <= books.overdue_ms
        and not below(event.at, books.recorded_to)
    )
    waiting = Counter((event.at.spot, event.minute) for event in uncounted(due, books.counting))
    waiting.update(books.waiting)
    for (spot, minute), count in sorted(waiting.items()):
        yield Violation(
            f"{spot.topic} {spot.partition}, {name_of(minute)}: {count} orders are not counted yet", harm=Harm.LOST
        )


def _add(sums: list[int], *more: int) -> None:
    for at, each in enumerate(more):
        sums[at] += each


def _sums(each: list[int]) -> Sums:
    return each[0], each[1], each[2]


def _minus(more: Sums, less: Sums) -> Sums:
    return more[0] - less[0], more[1] - less[1], more[2] - less[2]


def _harm(published: Sums, there: Sums) -> Harm:
    more = sum(published[:2]) - sum(there[:2])
    return Harm.DOUBLED if more > 0 else Harm.LOST if more < 0 else Harm.WRONG


def _said(sums: Sums) -> str:
    return f"{sums[0]} reserved, {sums[1]} failed, {sums[2]} units"
