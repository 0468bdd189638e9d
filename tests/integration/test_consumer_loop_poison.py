"""The plain consumer loop's way out for poison: one record is put aside, and nothing else is lost or left undone."""

from collections import Counter
from collections.abc import Sequence

from common.errors import Busy, Poison
from common.kafka.records import InputRecord
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
