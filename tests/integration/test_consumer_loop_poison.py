"""The plain loop's way out for poison and for unforeseen errors: one record is put aside, nothing else is lost."""

from collections import Counter
from collections.abc import Sequence

from onceloop.crashes import CRASHES_MAX
from onceloop.errors import Busy, Poison
from onceloop.records import InputRecord
from tests.integration.test_consumer_loop import Member, Notes, committed, write_numbers
from tests.pipeline import Pipeline
from tests.records import wait_for


def test_record_that_is_poison_is_put_aside_and_all_around_it_is_worked_on_in_order(pipeline: Pipeline) -> None:
    """It came again and again, and each time ended the process, for all users of its group."""
    values, notes, tried = write_numbers(pipeline, range(30), partition=0), Notes(), Counter[str]()
    bad = {"3", "7", "8", "29"}

    def refuse_bad(batch: Sequence[InputRecord]) -> None:
        found = [value for record in batch if (value := (record.value or b"").decode()) in bad]
        tried.update(found if len(batch) == 1 else ())
        if found:
            raise Poison(f"{found} cannot be stored")
        notes(batch)

    with Member(pipeline, refuse_bad) as member:
        wait_for(lambda: committed(pipeline) == 30 or member.failed is not None, what="all committed")
    assert member.failed is None
    assert member.rejected == sorted(bad, key=int)
    assert notes.values == [value for value in values if value not in bad]
    assert min(tried.values()) == 2, "each was tried alone, and once more"


def test_poison_that_passes_by_itself_costs_no_record(pipeline: Pipeline) -> None:
    values, notes, refused = write_numbers(pipeline, range(10), partition=0), Notes(), list[int]()

    def refuse_until_alone(batch: Sequence[InputRecord]) -> None:
        if len(refused) < 20 and (len(batch) > 1 or batch[0].offset not in refused):
            refused.append(batch[0].offset if len(batch) == 1 else -1)
            raise Poison("of this moment")
        notes(batch)

    with Member(pipeline, refuse_until_alone) as member:
        wait_for(lambda: committed(pipeline) == 10 or member.failed is not None, what="all committed")
    assert (member.failed, member.rejected) == (None, [])
    assert notes.values == values


def test_busy_in_the_middle_of_poison_brings_the_rest_again(pipeline: Pipeline) -> None:
    values, notes, busy = write_numbers(pipeline, range(10), partition=0), Notes(), [True]

    def refuse_the_last(batch: Sequence[InputRecord]) -> None:
        if batch[-1].value == b"9":
            if len(batch) == 1 and busy:
                busy.clear()
                raise Busy("the database is away")
            raise Poison("cannot be stored")
        notes(batch)

    with Member(pipeline, refuse_the_last) as member:
        wait_for(lambda: committed(pipeline) == 10 or member.failed is not None, what="all committed")
    assert (member.failed, member.rejected) == (None, ["9"])
    assert notes.values == values[:-1]


def test_record_for_which_the_handler_raises_an_unforeseen_error_is_put_aside_after_three_crashes(
    pipeline: Pipeline,
) -> None:
    """It ended the process at each start, for all users of its group."""
    values, notes, alone = write_numbers(pipeline, range(30), partition=0), Notes(), Counter[str]()
    bad = {"0", "7", "8", "20"}

    def crash_at_bad(batch: Sequence[InputRecord]) -> None:
        found = [value for record in batch if (value := (record.value or b"").decode()) in bad]
        alone.update(found if len(batch) == 1 else ())
        if found:
            raise IndexError("list index out of range")
        notes(batch)

    with Member(pipeline, crash_at_bad) as member:
        wait_for(lambda: committed(pipeline) == 30 or member.failed is not None, what="all committed")
    assert member.failed is None
    assert member.rejected == sorted(bad, key=int)
    assert set(notes.values) == set(values) - bad
    assert dict(alone) == dict.fromkeys(bad, CRASHES_MAX)


def test_exception_at_every_record_ends_the_loop_and_puts_none_aside(pipeline: Pipeline) -> None:
    """A bad release, or an outage in a disguise: what waits can be answered later, a dead letter is to be found."""
    write_numbers(pipeline, range(30))

    def crash(_batch: Sequence[InputRecord]) -> None:
        raise AttributeError("'NoneType' object has no attribute 'send'")

    with Member(pipeline, crash) as member:
        wait_for(lambda: member.failed is not None, what="the end")
    assert isinstance(member.failed, AttributeError)
    assert (member.rejected, committed(pipeline)) == ([], 0)
