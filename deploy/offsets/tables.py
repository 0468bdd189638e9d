"""What PostgreSQL proves of inventory's offsets. Read by the role `reader`."""

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa

_NOTED = sa.text('SELECT partition, "offset" FROM inventory.progress WHERE topic = :topic')
_DECIDED = sa.text(
    'SELECT partition, max("offset") + 1 AS "offset" FROM inventory.decision WHERE topic = :topic GROUP BY partition'
)


class Noted(NamedTuple):
    """Partition -> the offset below which all is answered, and the one behind the last decision."""

    progress: Mapping[int, int]
    decided: Mapping[int, int]


def noted(connection: sa.Connection, topic: str) -> Noted:
    """Return what stands there of one topic, named as on the cluster. Reads all decisions: 0.6 s a million."""
    progress = connection.execute(_NOTED, {"topic": topic})
    decided = connection.execute(_DECIDED, {"topic": topic})
    return Noted({row.partition: row.offset for row in progress}, {row.partition: row.offset for row in decided})
