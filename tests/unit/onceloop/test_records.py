"""What a step may hand to the loop."""

import pytest

from onceloop.errors import ContractError, ExitCode
from onceloop.records import CommitPoint, OutputRecord, Partition, Publish, rows

RECORD = OutputRecord("out", b"key", b"value")
OFFSETS = {Partition("in", 0): CommitPoint(1)}


@pytest.mark.parametrize("records", [[RECORD], []], ids=["a record", "nothing"])
def test_nothing_can_be_published_without_offsets(records: list[OutputRecord]) -> None:
    """It would be published again with every batch. To publish later is another value, which holds nothing."""
    with pytest.raises(ContractError, match="without offsets") as refused:
        Publish(records, {})
    assert refused.value.cure
    assert refused.value.exit_code is ExitCode.SOFTWARE
    assert Publish(records, OFFSETS).offsets == OFFSETS


def test_rows_are_what_calling_the_type_would_make() -> None:
    made = rows(CommitPoint, [1, 2], ["a", "b"])
    assert made == [CommitPoint(1, "a"), CommitPoint(2, "b")]
    assert {type(row) for row in made} == {CommitPoint}


def test_columns_of_different_length_make_no_rows() -> None:
    with pytest.raises(ValueError, match="shorter"):
        rows(CommitPoint, [1, 2], ["a"])
