"""The world of one trial: topics, a group and a database of its own, and the processes that work there.

All of it is gone when the block ends, but for the group: its last member may not have left it yet.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

import psycopg
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # without __all__
from psycopg import sql
from psycopg.conninfo import make_conninfo

from onceloop.testing import reader, subject
from onceloop.testing.case import Case, CaseError, Item
from onceloop.testing.facts import Facts, Fed, Place, Row
from onceloop.testing.gate import Gate
from onceloop.testing.guardian import Guardian
from onceloop.testing.members import Member, Members
from onceloop.testing.reader import TopicReader
from onceloop.testing.servers import Servers

REQUEST_SECONDS = 15.0
LOOK_SECONDS = 0.2
SESSION_SECONDS = 20.0
"""By then a member that is gone has left its group: its session of 6 s, and some slack."""
OUTPUT_PARTITIONS = 2


class Sandbox:
    """One trial's own part of the servers. `gated`: its processes reach the database through a gate."""

    def __init__(
        self,
        case: Case,
        app: subject.Subject,
        servers: Servers,
        *,
        folder: Path,
        guardian: Guardian,
        stopping: Event,
        gated: bool = False,
    ) -> None:
        token = secrets.token_hex(4)
        self.case = case
        self.app = app
        self.fed: list[Fed] = []
        self.members = Members(folder, guardian, stopping)
        self.gate: Gate | None = None
        self.waited_seconds = 0.0
        self._servers = servers
        self._gated = gated
        self._prefix = f"onceloop-{token}."
        self._database = f"onceloop_{token}"
        self._dsn = make_conninfo(servers.dsn, dbname=self._database)
        self._client = {**app.client_options, "bootstrap.servers": servers.bootstrap}
        self._admin = AdminClient({**self._client, "client.id": "onceloop-testing"}, logger=reader.SILENT)
        self.group = self._prefix + app.group
        self._producer = Producer({**self._client, "enable.idempotence": True, "linger.ms": 0}, logger=reader.SILENT)
        self._topics = TopicReader(self._client, group=self.group, prefix=self._prefix)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.callback(self._topics.close)
            self._make_database(opened)
            self._make_topics(opened)
            if self._gated:
                self.gate = opened.enter_context(Gate(self._servers.database_address))
            opened.callback(self.members.close)
            self.app.initialise(self._names(gated=False))
            self._set_up()
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def feed(self, items: Iterable[tuple[int, Item]], *, poison: bool = False) -> None:
        """Write records to the inputs; each comes with its number in the case."""
        places: list[Place] = []
        numbered = list(items)
        for _, item in numbered:
            self._producer.produce(
                self._prefix + item.topic,
                item.value,
                item.key,
                on_delivery=lambda error, found: _note(places, error, found),
            )
            self._producer.flush(REQUEST_SECONDS)  # one at a time: places come in the order of the items
        for (number, item), place in zip(numbered, places, strict=True):
            own = place._replace(topic=item.topic)
            name = b"" if poison else self.app.name_of(item, own)
            self.fed.append(Fed(own, item.key, item.value, number, name, poison))

    def start(self, slot: int = 0) -> Member:
        """Start a process in a slot."""
        names = self._names(gated=self._gated)
        return self.members.start([self.app.path, "--names", names.as_json()], slot=slot)

    def settle(self) -> None:
        """Wait until the group stands at the end of its inputs, a process is left to work on them, and time is left.

        What is not done by then is for the judge to say.
        """
        started = time.monotonic()
        until = started + self.case.settle_seconds
        while not self._is_settled() and self.members.any_runs() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        self.waited_seconds = time.monotonic() - started

    def set_offsets(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Set the group's offsets, once its last member has left it."""
        partitions = [
            TopicPartition(self._prefix + topic, number, offset) for (topic, number), offset in offsets.items()
        ]
        self.members.wait_until(
            lambda: self._alter(partitions), seconds=SESSION_SECONDS, what="the group's offsets are set"
        )

    def offsets(self) -> dict[tuple[str, int], int]:
        """Return the group's committed offset per partition, by the user's own topic names."""
        return self._topics.offsets(self.app.inputs)[0]

    def facts(self, expected: Sequence[Row] | None, expected_by: str) -> Facts:
        """Read everything; the processes have ended by now. Nothing expected: the effects are what they are."""
        published, hanging = self._topics.published(self.app.outputs)
        offsets, ends = self._topics.offsets(self.app.inputs)
        with psycopg.connect(self._dsn) as connection:
            effects = reader.effects(connection, self.case.effects)
            return Facts(
                fed=tuple(self.fed),
                published=published,
                decided=reader.decided(connection, schema=self.app.schema, prefix=self._prefix),
                effects=effects,
                expected=effects if expected is None else tuple(expected),
                expected_by=expected_by,
                dead_letters=self._topics.dead_letters(self._dead_letter_topics()),
                offsets=offsets,
                ends=ends,
                ended=[member.ended() for member in self.members.all],
                waited_seconds=self.waited_seconds,
                open_transactions=hanging,
            )

    def _set_up(self) -> None:
        if not self.case.setup:
            return
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                connection.execute(self.case.setup.encode())
        except psycopg.Error as error:
            raise CaseError(f"setup: {error}") from error

    def _names(self, *, gated: bool) -> subject.Names:
        dsn = make_conninfo(self._dsn, host="127.0.0.1", port=self.gate.port) if gated and self.gate else self._dsn
        return subject.Names(
            bootstrap=self._servers.bootstrap,
            dsn=dsn,
            group=self.group,
            prefix=self._prefix,
            batch_records_max=self.case.batch_records_max,
        )

    def _dead_letter_topics(self) -> list[str]:
        return [f"{topic}.{self.group}.dlq" for topic in self.app.inputs]

    def _make_database(self, opened: ExitStack) -> None:
        name = sql.Identifier(self._database)
        self._administer(sql.SQL("CREATE DATABASE {}").format(name))
        opened.callback(self._administer, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._servers.dsn, autocommit=True) as connection:
            connection.execute(statement)

    def _make_topics(self, opened: ExitStack) -> None:
        partitions = {
            **dict.fromkeys(self.app.outputs, OUTPUT_PARTITIONS),
            **dict.fromkeys(self._dead_letter_topics(), 1),
            **dict.fromkeys(self.app.inputs, self.case.partitions),  # an output that is an input as well is the latter
        }
        new = [
            NewTopic(self._prefix + topic, num_partitions=n, replication_factor=-1) for topic, n in partitions.items()
        ]
        opened.callback(self._delete_topics, [topic.topic for topic in new])
        for future in self._admin.create_topics(new, operation_timeout=REQUEST_SECONDS).values():
            future.result(REQUEST_SECONDS)
        self.members.wait_until(
            lambda: self._knows(new), seconds=REQUEST_SECONDS, what="the broker knows the topics of the trial"
        )

    def _knows(self, topics: list[NewTopic]) -> bool:
        """Return True once every partition has its leader: a topic that was just created is not there at once."""
        known = self._admin.list_topics(timeout=REQUEST_SECONDS).topics
        found = [known[topic.topic] for topic in topics if topic.topic in known]
        leaders = [each.leader for topic in found for each in topic.partitions.values()]
        return len(leaders) == sum(topic.num_partitions for topic in topics) and min(leaders) >= 0

    def _delete_topics(self, topics: list[str]) -> None:
        for future in self._admin.delete_topics(topics, operation_timeout=REQUEST_SECONDS).values():
            with suppress(KafkaException):  # made or not, gone or not: the trial has its own verdict
                future.result(REQUEST_SECONDS)

    def _is_settled(self) -> bool:
        try:
            offsets, ends = self._topics.offsets(self.app.inputs)
        except KafkaException:  # offsets of an open transaction are not stable yet
            return False
        return offsets == ends

    def _alter(self, partitions: list[TopicPartition]) -> bool:
        request = [ConsumerGroupTopicPartitions(self.group, partitions)]
        try:
            for future in self._admin.alter_consumer_group_offsets(request, request_timeout=REQUEST_SECONDS).values():
                answer = future.result(REQUEST_SECONDS)
                return all(each.error is None for each in answer.topic_partitions)
        except KafkaException:  # a member is still in the group
            time.sleep(LOOK_SECONDS)
        return False


def _note(places: list[Place], error: Any, message: Any) -> None:
    if error is not None:
        raise KafkaException(error)
    places.append(Place(message.topic(), message.partition(), message.offset()))
