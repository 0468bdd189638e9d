"""Where a group's offsets are kept, by numbers from Kafka's own `Utils.abs`."""

import pytest

from deploy.offsets.cluster import keeper


@pytest.mark.parametrize(
    ("group_id", "of_50", "of_3"),
    [
        ("inventory", 10, 1),  # a negative hash, as the next
        ("tc92a387fbb.inventory", 21, 0),
        ("notification", 3, 0),
        ("metrics", 21, 1),
        ("polygenelubricants", 0, 0),  # the least number of all, which has no absolute value in Java
    ],
)
def test_group_is_kept_where_kafka_keeps_it(group_id: str, of_50: int, of_3: int) -> None:
    assert (keeper(group_id, 50), keeper(group_id, 3)) == (of_50, of_3)
