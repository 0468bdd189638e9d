"""Watch whether a group has begun on every partition of the topics that it reads.

Partitions that are added to a topic come to a classic group with its next assignment, which its leader asks for when it
learns of them. A static member that is restarted takes up its share without knowing that it leads, so no member learns
of them or reads them. A member that gets a new partition commits its first offset at once; so where a
group has no offset, no member reads. Each member looks for such partitions, in the background: no loop waits for it.

By the offsets, not by the members' shares: a share says nothing of whether its member reads.
"""

import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future

from confluent_kafka import Consumer, KafkaException, TopicPartition

from onceloop.config import KafkaConfig
from onceloop.kafka.options import admin_options
from onceloop.records import Partition

ASK_EVERY_SECONDS = 4.0
"""Two of these are longer than a member takes to begin on a partition that is new."""
REQUEST_SECONDS = 3.0
LOOKS_TO_BELIEVE = 2
"""One look may come before a member has begun; so many in a row that agree do not."""


class CoverageWatch:
    """Looks at one group and the topics it reads, by their names on the cluster.

    `unread`: partitions that no member reads, as last seen.
    """

    def __init__(self, kafka: KafkaConfig, *, group_id: str, topics: Iterable[str]) -> None:
        self.unread: frozenset[Partition] = frozenset()
        # read_uncommitted: an offset in an open transaction is none to wait for here.
        self._consumer = Consumer(
            {
                **admin_options(kafka),
                "group.id": group_id,
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",
                "log_level": 2,
            }
        )
        self._topics = list(topics)
        self._asked = time.monotonic()
        self._looking: Future[frozenset[Partition] | None] | None = None
        self._agreed = 0

    def look(self, owned: Collection[Partition]) -> bool:
        """Read the answer that is there, ask again when it is time; return True if a new assignment is called for.

        Neither waits. `owned`: what this member reads itself. A broker that is away says nothing.
        """
        if self._looking is None:
            if time.monotonic() - self._asked >= ASK_EVERY_SECONDS:
                self._ask()
            return False
        if not self._looking.done():
            return False
        answer, self._looking = self._looking.result(), None
        if answer is None:
            return False
        found = answer.difference(owned)
        self._agreed = self._agreed + 1 if found and found == self.unread else min(len(found), 1)
        self.unread = found
        if self._agreed < LOOKS_TO_BELIEVE:
            return False
        self.start_over()
        return True

    def start_over(self) -> None:
        """Forget answers from before an assignment; what no member read stays named until a look says otherwise."""
        self._looking = None
        self._asked, self._agreed = time.monotonic(), 0

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._looking = Future()
        threading.Thread(target=self._answer, args=(self._looking,), name="coverage", daemon=True).start()

    def _answer(self, asked: "Future[frozenset[Partition] | None]") -> None:
        try:
            asked.set_result(self._seen())
        except KafkaException:
            asked.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised where the answer is looked at: a silent watch sees nothing
            asked.set_exception(error)

    def _seen(self) -> frozenset[Partition]:
        """Return the partitions on which the group has no offset."""
        topics = self._consumer.list_topics(timeout=REQUEST_SECONDS).topics
        asked = [TopicPartition(name, n) for name in self._topics if name in topics for n in topics[name].partitions]
        found = self._consumer.committed(asked, timeout=REQUEST_SECONDS) if asked else []
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return frozenset(Partition(each.topic, each.partition) for each in found if each.offset < 0)
