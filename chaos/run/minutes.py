"""What a run needs in which minutes open, close and are filled again: two steps, their patience, and a look at both."""

from collections.abc import Mapping

from audit.config import CheckerSettings
from audit.readers.cluster import Cluster
from audit.readers.counting import counted_to
from common.topics import METRICS

COUNTING: Mapping[str, str] = {
    "PIPELINE_METRICS_LATENESS_SECONDS": "20",
    "PIPELINE_METRICS_IDLE_SECONDS": "1",
    "PIPELINE_METRICS_SETTLE_SECONDS": "0.3",
}
"""Of both steps. Orders come out of turn by more than the lateness; so windows overlap, and some orders are late."""

PATIENT: Mapping[str, str] = {**COUNTING, "PIPELINE_METRICS_IDLE_SECONDS": "600"}
"""The newest minute of each partition stays open, however quiet it is."""


def windows_open(settings: CheckerSettings) -> bool:
    """Return True if a restart had to fill windows again: what was read lies behind what is committed."""
    cluster = Cluster(settings)
    committed = cluster.committed(METRICS)
    return any(counting.read_to > committed.get(spot, 0) for spot, counting in counted_to(cluster).items())
