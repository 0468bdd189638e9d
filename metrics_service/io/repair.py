"""Set the offsets of the groups that count to where counting goes on, with the numbers that belong beside them."""

from collections.abc import Mapping

from common.events.codec import Codec
from common.events.volume import MinuteVolume, VolumePartial
from common.kafka.admin import Admin
from common.log import get_logger
from common.topics import (
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    METRICS,
    METRICS_PARTIALS,
    METRICS_TOTALS,
    MINUTE_VOLUMES,
    Group,
    Topic,
    dead_letter_topic,
)
from metrics_service.config import MetricsSettings
from metrics_service.core.proof import Published, published, topic_id
from metrics_service.core.resume import Resumed, totals_resumed, windows_resumed
from onceloop.kafka.group_offsets import set_group_offsets
from onceloop.kafka.looking_back import Looker, looking
from onceloop.kafka.options import admin_options
from onceloop.kafka.topic_watch import recreated
from onceloop.records import CommitPoint, InputRecord, Partition

SOURCES = (INVENTORY_RESERVED, INVENTORY_FAILED)

log = get_logger()


class Repair:
    """Reads what is published and sets offsets. Raises ReportedError if a group has members, or a topic is another."""

    def __init__(self, settings: MetricsSettings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._options = admin_options(settings.kafka)
        self._admin = Admin(settings)

    def windows(self) -> None:
        """Set the group `metrics`: what is published of each partition is counted, everything else is not yet."""
        ids, stood = self._standing(METRICS, SOURCES)
        with looking(self._options) as looker:
            known = published(partial for _, partial in self._partials(looker))
            firsts = {at: looker.bounds(at)[0] for at in self._admin.stable_ends(SOURCES)}
        resumed = {
            at: windows_resumed(stood.get(at), known.get(at, Published()), first=first, topic_id=ids[at.topic])
            for at, first in firsts.items()
        }
        self._set(METRICS, stood, resumed)

    def totals(self) -> None:
        """Set the group `metrics-totals`: what a published total holds is added up, everything else is not yet."""
        ids, stood = self._standing(METRICS_TOTALS, (METRICS_PARTIALS,))
        (at,) = self._admin.stable_ends([METRICS_PARTIALS])
        letters = dead_letter_topic(METRICS_PARTIALS, METRICS_TOTALS)
        with looking(self._options) as looker:
            first, end = looker.bounds(at)
            refused = {letter.value for letter in self._records(looker, letters)}
            records = self._records(looker, METRICS_PARTIALS)
            totals = [
                self._codec.decode(MinuteVolume, record.value) for record in self._records(looker, MINUTE_VOLUMES)
            ]
        aside = {record.offset for record in records if record.value in refused}
        partials = [(r.offset, self._codec.decode(VolumePartial, r.value)) for r in records if r.offset not in aside]
        resumed = totals_resumed(
            stood.get(at), partials, totals, refused=aside, first=first, end=end, topic_id=ids[at.topic]
        )
        self._set(METRICS_TOTALS, stood, {at: resumed})

    def _standing(
        self, group: Group, sources: tuple[Topic, ...]
    ) -> tuple[Mapping[str, str], Mapping[Partition, CommitPoint]]:
        ids, stood = self._admin.topic_ids(sources), self._admin.committed(group)
        for at, point in stood.items():
            if topic_id(point) not in {"", ids[at.topic]}:
                raise recreated(at.topic, topic_id(point), ids[at.topic])
        return ids, stood

    def _partials(self, looker: Looker) -> list[tuple[int, VolumePartial]]:
        return [(r.offset, self._codec.decode(VolumePartial, r.value)) for r in self._records(looker, METRICS_PARTIALS)]

    def _records(self, looker: Looker, topic: Topic) -> list[InputRecord]:
        """Return all that stands on a topic of one partition, in its order."""
        at = Partition(topic.within(self._settings.namespace), 0)
        return list(looker.newest_below(at, looker.bounds(at)[1]))[::-1]

    def _set(self, group: Group, stood: Mapping[Partition, CommitPoint], resumed: Mapping[Partition, Resumed]) -> None:
        changes = {at: each.point for at, each in resumed.items() if each.point != stood.get(at)}
        if changes:
            set_group_offsets(self._options, group_id=group.within(self._settings.namespace), points=changes)
        for at in sorted(changes):
            log.info(
                "offset.repaired",
                group=group.name,
                topic=at.topic,
                partition=at.number,
                stood=stood[at].offset if at in stood else None,
                offset=changes[at].offset,
                beside=changes[at].metadata,
                lost_offsets=resumed[at].lost,
            )
        log.info("offsets.repaired", group=group.name, set=len(changes), right=len(resumed) - len(changes))
