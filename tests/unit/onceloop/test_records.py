"""What a step may hand to the loop."""

import pytest

from onceloop.errors import ContractError, ExitCode
from onceloop.records import CommitPoint, OutputRecord, Partition, Publish

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
