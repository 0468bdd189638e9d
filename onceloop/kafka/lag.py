"""Lag from inside: how many records a worker has still to do, of the partitions it owns.

Two things are set against each other: the offset that is due next in the worker's loop, and the stable offset, as
librdkafka's statistics report it once a second. Commit markers and records of aborted transactions take offsets too,
and no client is ever given them. A client that has read up to the stable offset and holds nothing back knows that there
is no record left, however far the due offset lies below.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from onceloop import metrics
from onceloop.records import Partition
from onceloop.telemetry import Observer


class Tail(NamedTuple):
    """Where a partition ends for a read_committed reader. `read_out`: its client has nothing left to hand over."""

    stable_end: int
    read_out: bool


def tails(statistics: str) -> dict[Partition, Tail]:
    """Return the ends that librdkafka's statistics report; a partition that was not fetched yet is left out.

    Source: STATISTICS.md: `ls_offset` is the stable offset of the last fetch, `next_offset` where the next one begins,
    behind markers too, `fetchq_cnt` what was fetched and not taken (of all partitions, since they share one queue).
    """
    return {
        Partition(name, int(number)): Tail(found["ls_offset"], _is_read_out(found))
        for name, topic in json.loads(statistics).get("topics", {}).items()
        for number, found in topic["partitions"].items()
        if int(number) >= 0 and found["ls_offset"] >= 0
    }


def _is_read_out(partition: Mapping[str, Any]) -> bool:
    return bool(partition["fetchq_cnt"] == 0 and partition["next_offset"] >= partition["ls_offset"])


def left_over(tail: Tail, due: int) -> int:
    """Return how many records lie between; markers among them count, as long as they were not read past."""
    return 0 if tail.read_out else max(0, tail.stable_end - due)


class LagGauges:
    """The lag of one group's member, partition by partition. `topic_prefix`: what topics are named without."""

    def __init__(self, group: str, *, topic_prefix: str, observer: Observer) -> None:
        self._group = group
        self._topic_prefix = topic_prefix
        self._observer = observer
        self._tails: dict[Partition, Tail] = {}
        self._due: Mapping[Partition, int] = {}
        self._reported: dict[Partition, int] = {}
        self._fetching = True
        self._stale = False

    def report(self, due: Mapping[Partition, int]) -> None:
        """Set the lag against these offsets, the next ones due; what is learned later is set against them too."""
        self._due = due
        for partition, offset in due.items():
            tail = self._tails.get(partition)
            if tail is not None and self._reported.get(partition) != (lag := left_over(tail, offset)):
                self._reported[partition] = lag
                self._observer.set(metrics.CONSUMER_LAG, lag, *self._labels(partition))

    def learn(self, statistics: str) -> None:
        """Take the client's statistics. Called inside its poll, where nothing may raise: no gauge ends a worker."""
        if self._stale:  # written before a rewind, read after it
            self._stale = False
        elif self._fetching:
            try:
                self._take(tails(statistics))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self._observer.log("warning", "statistics.unreadable", exc_info=error)

    def learn_ends(self, ends: Mapping[Partition, int]) -> None:
        """Take stable offsets for which the broker was asked, since nothing is fetched."""
        self._take({partition: Tail(end, read_out=False) for partition, end in ends.items()})

    def paused(self) -> None:
        """Believe no statistics until the next rewind: they repeat the last fetch, and what was taken is dropped."""
        self._fetching = False
        self._doubt()

    def rewound(self, owned: Iterable[Partition]) -> None:
        """Forget what was read ahead, and partitions that are not owned any more."""
        self._fetching = self._stale = True
        self._doubt()
        for partition in self._reported.keys() - set(owned):
            self._observer.forget(metrics.CONSUMER_LAG, *self._labels(partition))
            del self._reported[partition]
            self._tails.pop(partition, None)

    def _take(self, found: Mapping[Partition, Tail]) -> None:
        for partition, tail in found.items():  # a partition that is held repeats an old end, and ends never fall
            if tail.stable_end >= self._tails.get(partition, tail).stable_end:
                self._tails[partition] = tail
        self.report(self._due)

    def _doubt(self) -> None:
        self._tails = {partition: tail._replace(read_out=False) for partition, tail in self._tails.items()}

    def _labels(self, partition: Partition) -> tuple[str, str, str]:
        return self._group, partition.topic.removeprefix(self._topic_prefix), str(partition.number)
