"""Watch whether every partition that a group reads is the share of one of its members.

Partitions that are added to a topic come to a classic group with its next assignment, which its leader asks for when it
learns of them. A static member that is restarted takes up its share without knowing that it leads, so nobody learns,
and nobody reads them (docs/adr/0037). So each member looks at the group from outside, as anyone may, in the background:
watching never makes a loop wait.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from common.config import KafkaSettings
from common.kafka.options import admin_options
from common.kafka.records import Partition
from common.topics import Group, Topic

ASK_EVERY_SECONDS = 3.0
REQUEST_SECONDS = 5.0
LOOKS_TO_BELIEVE = 2
"""One look may catch the group between two assignments; so many in a row that agree do not."""


class CoverageWatch:
    """Looks at one group and the topics it reads. `unread`: partitions that were no member's share, as last seen."""

    def __init__(self, settings: KafkaSettings, *, group: Group, topics: Iterable[Topic]) -> None:
        self.unread: frozenset[Partition] = frozenset()
        self._client = AdminClient({**admin_options(settings), "log_level": 2})
        self._group_id = group.within(settings.namespace)
        self._topics = TopicCollection([topic.within(settings.namespace) for topic in topics])
        self._asked = time.monotonic()
        self._described: dict[str, Future[Any]] = {}
        self._group: Future[Any] | None = None
        self._covered: Mapping[str, int] = {}
        self._agreed = 0

    def look(self) -> bool:
        """Read the answers that are there, ask again when it is time; return True if a new assignment is called for.

        Neither waits. A group in the middle of a rebalance, or a broker that is away, says nothing.
        """
        if not self._described:
            if time.monotonic() - self._asked >= ASK_EVERY_SECONDS:
                self._ask()
            return False
        if not all(answer.done() for answer in (*self._described.values(), *filter(None, [self._group]))):
            return False
        found = self._answer()
        if found is None:
            return False
        self._agreed = self._agreed + 1 if found and found == self.unread else min(len(found), 1)
        self.unread = found
        if self._agreed < LOOKS_TO_BELIEVE:
            return False
        self.begin_anew()
        return True

    def begin_anew(self) -> None:
        """Forget answers from before an assignment; what nobody read stays named until a look says otherwise."""
        self._group, self._described, self._covered = None, {}, {}
        self._asked, self._agreed = time.monotonic(), 0

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._described = self._client.describe_topics(self._topics, request_timeout=REQUEST_SECONDS)
        if not self._covered:
            self._ask_group()

    def _ask_group(self) -> None:
        """Ask for the shares, and no more often than there is a reason to.

        The client's call can take the whole process down when the group's coordinator is loading or hangs (librdkafka
        issue 5040, `eonce->refcnt > 0`); it did so once, when a broker was thawed after 20 s.
        """
        asked = self._client.describe_consumer_groups([self._group_id], request_timeout=REQUEST_SECONDS)
        self._group = asked[self._group_id]

    def _answer(self) -> frozenset[Partition] | None:
        """Return what no member reads, or None if that cannot be said now."""
        group, described = self._group, self._described
        self._group, self._described = None, {}
        try:
            counts = {name: len(answer.result(0).partitions) for name, answer in described.items()}
            if group is None:
                if counts != self._covered:  # the next look asks the group too
                    self._covered = {}
                return None
            seen = group.result(0)
        except KafkaException:
            return None
        if seen.state != ConsumerGroupState.STABLE:
            return None
        shares = [
            Partition(at.topic, at.partition) for member in seen.members for at in member.assignment.topic_partitions
        ]
        found = unread(counts, shares)
        if not found:
            self._covered = counts
        return found


def unread(counts: Mapping[str, int], shares: Iterable[Partition]) -> frozenset[Partition]:
    """Return the partitions that are in no share. `counts`: topic -> how many partitions it has."""
    return frozenset(Partition(topic, number) for topic, count in counts.items() for number in range(count)).difference(
        shares
    )
