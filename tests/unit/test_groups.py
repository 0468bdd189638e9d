"""The test runner keeps together what shares a stack or a scene."""

import pytest


@pytest.mark.xdist_group("together")
def test_parallel_run_knows_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """pytest 9.2 keeps a node's id where xdist 3.8 does not write: groups are then ignored, without a word."""
    parallel = hasattr(request.config, "workerinput")
    assert request.node.nodeid.endswith("@together") or not parallel
