"""Where the metrics stand: what they store beside their committed offsets, read without a line of theirs."""

import json
from typing import Any

from audit.books import Counting
from audit.readers.cluster import Cluster, at_time
from audit.terms import Offsets, Spot
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, METRICS, METRICS_TOTALS

LATEST_SECONDS = 60.0
"""How long after both, its minute's end and its own record, an order may be uncounted."""


def counted_to(cluster: Cluster) -> dict[Spot, Counting]:
    """Return how far each partition of outcomes is counted; empty where none ever counted."""
    progress = {spot: _fields(text) for spot, text in cluster.metadata(METRICS).items()}
    return {spot: Counting(int(fields.get("p", 0)), int(fields.get("e", 0))) for spot, fields in progress.items()}


def added_to(cluster: Cluster) -> int:
    """Return the offset to which partials are added up."""
    return max((int(_fields(text).get("p", 0)) for text in cluster.metadata(METRICS_TOTALS).values()), default=0)


def overdue_at(cluster: Cluster, time_ms: int) -> Offsets:
    """Return, per partition of outcomes, the offset below which every record is older than this."""
    spots = [spot for topic in (INVENTORY_RESERVED, INVENTORY_FAILED) for spot in cluster.spots(topic)]
    ends = cluster.stable_ends([INVENTORY_RESERVED, INVENTORY_FAILED])
    found = cluster.offsets(spots, at_time(time_ms))
    return {spot: offset if offset >= 0 else ends[spot] for spot, offset in found.items()}


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
