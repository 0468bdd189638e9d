"""What a step may hand to the loop."""

import pytest

from common.errors import ContractError, ExitCode
from common.kafka.records import CommitPoint, OutputRecord, Partition, Plan

RECORD = OutputRecord("out", b"key", b"value")
OFFSETS = {Partition("in", 0): CommitPoint(1)}


@pytest.mark.parametrize(
    "publishes", [{"records": [RECORD]}, {"dead_letters": [RECORD]}], ids=["records", "dead letters"]
)
def test_plan_that_publishes_without_offsets_cannot_be_made(publishes: dict[str, list[OutputRecord]]) -> None:
    """The loop takes a plan without offsets for a batch that is kept: what it holds would be dropped in silence."""
    with pytest.raises(ContractError, match="without offsets") as refused:
        Plan(**publishes)  # type: ignore[arg-type]
    assert refused.value.cure
    assert refused.value.exit_code is ExitCode.SOFTWARE
    assert Plan(**publishes, offsets=OFFSETS).offsets == OFFSETS  # type: ignore[arg-type]


def test_plan_that_keeps_the_batch_holds_nothing_at_all() -> None:
    assert (Plan().records, Plan().dead_letters, Plan().offsets) == ((), (), {})
