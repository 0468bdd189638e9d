"""What an audit looks at: the cluster, the topics as far as they were read, the tables."""

import time

from audit.books import Stall
from audit.config import CheckerSettings
from audit.readers.avro import Registry
from audit.readers.cluster import Cluster
from audit.readers.collector import Collector, Record
from audit.readers.second_reading import Census, count_in
from audit.readers.tables import TableReader
from audit.readers.topics import DOWNSTREAM_FIRST, TopicReader
from audit.terms import Coordinate, Offsets
from common.topics import METRICS_PARTIALS, MINUTE_VOLUMES

TURN_SECONDS = 0.25


class Scene:
    """`counting`: a digest of each record is kept too, for a second reading. `begins`: where reading starts there."""

    def __init__(self, settings: CheckerSettings, *, counting: bool = False, begins: Offsets | None = None) -> None:
        self.cluster = Cluster(settings)
        self.tables = TableReader(settings)
        self.found = Collector(Registry(settings.registry_url), namespace=settings.namespace)
        self.counting = counting
        self.census: Census = {}
        self.topics = TopicReader(
            self.cluster,
            self.cluster.begins(DOWNSTREAM_FIRST) if begins is None else begins,
            self._count if counting else self.found.take,
        )

    def read(self, *, seconds: float) -> tuple[Offsets, tuple[Stall, ...]]:
        """Read all topics to their present ends; return these, and what is held back after so long."""
        ends = self.cluster.ends(DOWNSTREAM_FIRST)
        return ends, self.topics.read_to(ends, seconds=seconds)

    def held_back(self, ends: Offsets, *, seconds: float) -> tuple[Stall, ...]:
        """Return the partitions whose stable end stays below these ends for so long, by the broker's own word."""
        deadline = time.monotonic() + seconds
        while True:
            stable = self.cluster.stable_ends(DOWNSTREAM_FIRST)
            behind = [spot for spot, end in ends.items() if stable[spot] < end]
            if not behind or time.monotonic() > deadline:
                return tuple(Stall(Coordinate(*spot, stable[spot]), ends[spot]) for spot in behind)
            time.sleep(TURN_SECONDS)

    def forget_minutes(self) -> None:
        """Forget what was read of the topics that counts stand on: they are recounted."""
        names = (METRICS_PARTIALS.name, MINUTE_VOLUMES.name)
        self.topics.forget(*names)
        self.found.partials.clear()
        self.found.totals.clear()
        self.found.misfits = [misfit for misfit in self.found.misfits if misfit.at.topic not in names]
        self.census = {at: found for at, found in self.census.items() if at.topic not in names}

    def _count(self, record: Record) -> None:
        count_in(self.census, record)
        self.found.take(record)
