"""Both steps, driven as the loop drives them: whatever happens on the way, the same totals as in one pass.

What a broker keeps is modelled by three things that change together, or not at all: records, offsets, their metadata.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest

from hypothesis import given, settings
from hypothesis import strategies as st

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.orders import OrderLine
from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial, minute_of
from metrics_service.core.windows import Patience
from metrics_service.io.start_guard import StartGuard
from metrics_service.io.totals_step import TotalsStep
from metrics_service.io.windows_step import AHEAD_MS_MAX, WindowsStep
from onceloop.errors import Busy
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Plan, Publish, Step
from tests.factories import make_codec

CODEC = make_codec()
NOON = 1_800_000_000_000
ID = "01963c1e-7b44-7000-8000-0000000000ff"
RESERVED, FAILED = Partition("inventory.reserved", 0), Partition("inventory.failed", 1)
PARTIALS = Partition("metrics.partials", 0)
PATIENCE = Patience(lateness_ms=3000, idle_ms=2000)


@dataclass
class Clock:
    now_ms: int = NOON

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Broker:
    """Topics with holes where markers are, and one group's offsets."""

    logs: Mapping[Partition, Sequence[InputRecord]]
    committed: dict[Partition, CommitPoint] = field(default_factory=dict)
    written: list[OutputRecord] = field(default_factory=list)
    letters: list[OutputRecord] = field(default_factory=list)
    transactions: int = 0
    once: list[dict[Partition, CommitPoint]] = field(default_factory=list)
    """What was committed before, in its order."""


class Loop:
    """One process at a time; `crash` starts the next. What it commits never falls."""

    def __init__(self, broker: Broker, step: Step) -> None:
        self.broker = broker
        self.step = step
        self.broker.committed.update({at: CommitPoint(0) for at in broker.logs})
        self.crash()

    def crash(self) -> None:
        self.step.reset(dict(self.broker.committed))
        self.due = {at: point.offset for at, point in self.broker.committed.items()}

    def read(self, *, share: int, most: int, lost: bool) -> None:
        """Take some records, `share` percent of the first partition; `lost`: the process dies before it commits."""
        parts = [
            [record for record in log if record.offset >= self.due[at]][: most * percent // 100]
            for (at, log), percent in zip(self.broker.logs.items(), (share, 100 - share), strict=False)
        ]
        batch = [record for turn in zip_longest(*parts) for record in turn if record is not None]
        if batch:
            self._take(self.step.decide(batch), lost=lost)
        if not lost:
            self.due.update({record.partition: record.offset + 1 for record in batch})

    def idle(self, *, lost: bool = False) -> None:
        if self.step.pending():
            self._take(self.step.decide(()), lost=lost)

    def read_all(self) -> None:
        while any(record.offset >= self.due[at] for at, log in self.broker.logs.items() for record in log):
            self.read(share=100 if len(self.broker.logs) == 1 else 50, most=50, lost=False)

    def _take(self, plan: Plan, *, lost: bool) -> None:
        if lost:
            self.crash()
        elif isinstance(plan, Publish):
            for at, point in plan.offsets.items():
                assert point.offset >= self.broker.committed[at].offset, "a committed offset fell"
                assert point != self.broker.committed[at]
                assert (
                    json.loads(point.metadata)["p"] >= json.loads(self.broker.committed[at].metadata or '{"p":0}')["p"]
                )
            self.broker.once.append(dict(self.broker.committed))
            self.broker.committed.update(plan.offsets)
            self.broker.written += [record for record in plan.records if not record.is_dead_letter]
            self.broker.letters += [record for record in plan.records if record.is_dead_letter]
            self.broker.transactions += 1
            self.step.settled(plan)


def windows_loop(logs: Mapping[Partition, Sequence[InputRecord]], clock: Clock) -> Loop:
    """What is published is believed after each crash: a false alarm would be Busy."""
    broker = Broker(logs)
    step = WindowsStep(
        codec=CODEC,
        namespace="",
        patience=PATIENCE,
        now_ms=clock,
        newest_partials=lambda: volumes(broker.written),
        guard=GUARD,
    )
    return Loop(broker, step)


GUARD = StartGuard(group="metrics", topic_ids={}, earliest=lambda partitions: dict.fromkeys(partitions, 0))


def totals_loop(partials: Sequence[OutputRecord], clock: Clock, *, empty_minute_ms: int = 0) -> Loop:
    log = [InputRecord(PARTIALS, 2 * number, each.key, each.value) for number, each in enumerate(partials)]
    broker = Broker({PARTIALS: log})
    step = TotalsStep(
        codec=CODEC,
        namespace="",
        settle_ms=2000,
        empty_minute_ms=empty_minute_ms,
        horizon_ms=60 * MINUTE_MS,
        now_ms=clock,
        newest_totals=lambda: minutes(broker.written),
        guard=GUARD,
    )
    return Loop(broker, step)


def outcome(placed_at_ms: int, *, reserved: bool, units: int, decided_at_ms: int | None = None) -> bytes:
    lines = (OrderLine("tea", units),)
    decided = placed_at_ms + 20 if decided_at_ms is None else decided_at_ms
    if reserved:
        return CODEC.encode(InventoryReserved(ID, ID, "ada", lines, placed_at_ms, decided))
    return CODEC.encode(
        InventoryFailed(ID, ID, "ada", lines, Reason.INSUFFICIENT_STOCK, "tea", units, 0, placed_at_ms, decided)
    )


@dataclass(frozen=True)
class LoggedOrder:
    """One record of an input partition; `placed_at_ms` None: bytes that hold no order."""

    gap: int
    placed_at_ms: int | None
    units: int


def log_of(partition: Partition, logged: Sequence[LoggedOrder]) -> list[InputRecord]:
    records, offset = [], 0
    for each in logged:
        offset += each.gap
        value = b"nonsense"
        if each.placed_at_ms is not None:
            value = outcome(each.placed_at_ms, reserved=partition == RESERVED, units=each.units)
        records.append(InputRecord(partition, offset, b"ada", value))
        offset += 1
    return records


def volumes(records: Sequence[OutputRecord]) -> list[VolumePartial]:
    return [CODEC.decode(VolumePartial, record.value) for record in records]


def minutes(records: Sequence[OutputRecord]) -> list[MinuteVolume]:
    return [CODEC.decode(MinuteVolume, record.value) for record in records]


def expected(logged: Mapping[Partition, Sequence[LoggedOrder]]) -> dict[int, tuple[int, int, int]]:
    """Return reserved, failed, units per minute, counted in one pass without any window."""
    found: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for partition, each in ((at, each) for at, log in logged.items() for each in log):
        if each.placed_at_ms is not None:
            sums = found[minute_of(each.placed_at_ms)]
            sums[0 if partition == RESERVED else 1] += 1
            sums[2] += each.units if partition == RESERVED else 0
    return {minute: (reserved, failed, units) for minute, (reserved, failed, units) in found.items()}


def last_totals(records: Sequence[OutputRecord]) -> dict[int, tuple[int, int, int]]:
    totals: dict[int, MinuteVolume] = {}
    for total in minutes(records):
        assert total.minute_ms not in totals or total.revision > totals[total.minute_ms].revision, "a revision fell"
        assert total.orders == total.reserved + total.failed
        totals[total.minute_ms] = total
    return {minute: (total.reserved, total.failed, total.units) for minute, total in totals.items()}


TIMES = [NOON + minute * MINUTE_MS + ms for minute in range(5) for ms in (0, 2_999, 3_000, 59_999)]
LOGGED_ORDERS = st.builds(
    LoggedOrder, gap=st.integers(0, 2), placed_at_ms=st.sampled_from([*TIMES, None]), units=st.sampled_from([1, 1, 100])
)
LOGS = st.fixed_dictionaries(
    {
        RESERVED: st.lists(LOGGED_ORDERS, min_size=6, max_size=25),
        FAILED: st.lists(LOGGED_ORDERS, min_size=2, max_size=12),
    }
)
READS = st.tuples(
    st.just("read"), st.sampled_from([0, 50, 50, 100]), st.integers(1, 8), st.sampled_from([False, False, True])
)
EVENTS = st.one_of(
    READS,
    READS,
    st.tuples(st.just("wait"), st.sampled_from([500, 2500, 30_000, 90_000]), st.just(0), st.booleans()),
    st.tuples(st.just("crash"), st.just(0), st.just(0), st.just(False)),
)
SCRIPT = st.lists(EVENTS, min_size=5, max_size=40)


def play(loop: Loop, clock: Clock, script: Sequence[tuple[str, int, int, bool]], *, waits: bool = True) -> Broker:
    """Follow the script, then read the rest and let the clock close what is open."""
    for what, number, most, lost in script:
        match what:
            case "read":
                loop.read(share=number, most=most, lost=lost)
            case "wait" if waits:
                clock.now_ms += number
                loop.idle(lost=lost)
            case "crash":
                loop.crash()
    loop.read_all()
    for _ in range(3):
        clock.now_ms += 10 * MINUTE_MS
        loop.idle()
    return loop.broker


@given(LOGS, SCRIPT, SCRIPT)
@settings(deadline=None)
def test_any_batches_crashes_waits_and_late_orders_give_the_totals_of_one_pass(
    logged: Mapping[Partition, Sequence[LoggedOrder]],
    script: Sequence[tuple[str, int, int, bool]],
    more: Sequence[tuple[str, int, int, bool]],
) -> None:
    clock = Clock()
    logs = {at: log_of(at, each) for at, each in logged.items()}
    counted = play(windows_loop(logs, clock), clock, script)

    in_time = Counter(
        (each.topic, each.partition, each.minute_ms) for each in volumes(counted.written) if not each.late
    )
    assert not in_time or max(in_time.values()) == 1, "a partition published the same minute twice"
    poison = sorted((at.topic, r.offset) for at, log in logs.items() for r in log if r.value == b"nonsense")
    headers = [dict(letter.headers) for letter in counted.letters]
    assert sorted(((each["dlq_topic"] or b"").decode(), int(each["dlq_offset"] or -1)) for each in headers) == poison

    added = play(totals_loop(counted.written, clock), clock, more)
    assert last_totals(added.written) == expected(logged)


@given(LOGS, SCRIPT, SCRIPT)
@settings(deadline=None)
def test_from_old_offsets_on_nothing_is_published_twice(
    logged: Mapping[Partition, Sequence[LoggedOrder]],
    script: Sequence[tuple[str, int, int, bool]],
    more: Sequence[tuple[str, int, int, bool]],
) -> None:
    """A broker that is still loading its groups answers what was committed once; each step believes it or not."""
    clock = Clock()
    counting = windows_loop({at: log_of(at, each) for at, each in logged.items()}, clock)
    counted = play(counting, clock, script)
    for old in list(counted.once):
        counted.committed.update(old)
        counting.crash()
        with suppress(Busy):
            play(counting, clock, [])
    in_time = Counter(
        (each.topic, each.partition, each.minute_ms) for each in volumes(counted.written) if not each.late
    )
    assert not in_time or max(in_time.values()) == 1, "a partition published the same minute twice"

    adding = totals_loop(counted.written, clock)
    added = play(adding, clock, more)
    for old in list(added.once):
        added.committed.update(old)
        adding.crash()
        play(adding, clock, [])
    assert last_totals(added.written) == expected(logged)


@given(LOGS, SCRIPT)
@settings(deadline=None)
def test_without_the_wall_clock_even_what_counts_as_late_is_that_of_one_pass(
    logged: Mapping[Partition, Sequence[LoggedOrder]], script: Sequence[tuple[str, int, int, bool]]
) -> None:
    def late(counted: Broker) -> dict[tuple[str, int, int], int]:
        found: Counter[tuple[str, int, int]] = Counter()
        for each in volumes(counted.written):
            found[each.topic, each.partition, each.minute_ms] += each.late
        return dict(found)

    logs = {at: log_of(at, each) for at, each in logged.items()}
    clock, other = Clock(), Clock()
    assert late(play(windows_loop(logs, clock), clock, script, waits=False)) == late(
        play(windows_loop(logs, other), other, [])
    )


@given(LOGS, SCRIPT)
@settings(deadline=None)
def test_every_revision_is_the_sum_of_so_many_partials(
    logged: Mapping[Partition, Sequence[LoggedOrder]], script: Sequence[tuple[str, int, int, bool]]
) -> None:
    clock = Clock()
    counted = play(windows_loop({at: log_of(at, each) for at, each in logged.items()}, clock), clock, [])
    added = play(totals_loop(counted.written, clock), clock, script)
    partials: dict[int, list[VolumePartial]] = defaultdict(list)
    for partial in volumes(counted.written):
        partials[partial.minute_ms].append(partial)
    for total in minutes(added.written):
        parts = partials[total.minute_ms][: total.revision]
        assert len(parts) == total.revision
        assert (total.reserved, total.failed) == (sum(p.reserved for p in parts), sum(p.failed for p in parts))
        assert (total.units, total.late) == (sum(p.units for p in parts), sum(p.late for p in parts))


@given(st.lists(st.sampled_from([7_000, 25_000, 61_000]), min_size=1, max_size=30), st.sets(st.integers(0, 29)))
@settings(deadline=None)
def test_each_minute_without_orders_is_published_as_zero_once__also_if_the_process_dies(
    waits: Sequence[int], crashes: set[int]
) -> None:
    clock = Clock(NOON + 30_000)
    loop = totals_loop((), clock, empty_minute_ms=10_000)
    clock.now_ms += 3_000
    loop.idle()
    for number, wait_ms in enumerate(waits):
        clock.now_ms += wait_ms
        if number in crashes:
            loop.idle(lost=True)
        loop.idle()
    clock.now_ms += 3_000
    loop.idle()
    zeros = [total.minute_ms for total in minutes(loop.broker.written)]
    assert zeros == list(range(NOON, minute_of(clock.now_ms - 10_000), MINUTE_MS))


def test_batches_without_a_closed_minute_cost_no_transaction() -> None:
    clock = Clock()
    logged = [LoggedOrder(0, NOON + number, 1) for number in range(500)]
    loop = windows_loop({RESERVED: log_of(RESERVED, logged), FAILED: []}, clock)
    loop.read_all()
    assert loop.broker.transactions == 0
    clock.now_ms += 10 * MINUTE_MS
    loop.idle()
    assert loop.broker.transactions == 1


def test_order_that_was_decided_long_before_it_was_placed_is_a_dead_letter() -> None:
    """Its window would stay open until that time, and hold the committed offset back."""
    clock = Clock()
    values = [
        outcome(NOON, reserved=True, units=1, decided_at_ms=NOON - AHEAD_MS_MAX + 1),
        outcome(NOON, reserved=True, units=1, decided_at_ms=NOON - AHEAD_MS_MAX),
        outcome(253_402_300_800_000, reserved=True, units=1),
        outcome(0, reserved=True, units=1),
    ]
    log = [InputRecord(RESERVED, offset, b"ada", value) for offset, value in enumerate(values)]
    loop = windows_loop({RESERVED: log, FAILED: []}, clock)
    loop.read_all()
    assert [dict(letter.headers)["dlq_offset"] for letter in loop.broker.letters] == [b"1", b"2", b"3"]
    assert {dict(letter.headers)["dlq_error_class"] for letter in loop.broker.letters} == {b"content"}


def test_minute_that_is_no_longer_kept_is_a_dead_letter_and_no_half_total() -> None:
    clock = Clock()
    parts = [VolumePartial("t", 0, NOON + minute * MINUTE_MS, 1, 0, 1, 0, 1) for minute in (0, 100, 0)]
    loop = totals_loop([OutputRecord("", b"", CODEC.encode(part)) for part in parts[:2]], clock)
    loop.read_all()
    for _ in range(2):
        clock.now_ms += 100 * MINUTE_MS
        loop.idle()
    loop.broker.logs = {PARTIALS: [*loop.broker.logs[PARTIALS], InputRecord(PARTIALS, 9, b"", CODEC.encode(parts[2]))]}
    loop.read_all()
    assert [total.minute_ms for total in minutes(loop.broker.written)] == [NOON, NOON + 100 * MINUTE_MS]
    assert [dict(letter.headers)["dlq_error_class"] for letter in loop.broker.letters] == [b"horizon"]
