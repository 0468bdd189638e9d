"""One order's story: what HTTP, the topics and the tables say of it, and when each thing happened.

The tables are asked by key. On the topics the order is looked for where it must be: from the time in its id on, in the
partition of its user; in all partitions if it is not there. So it takes about a second, whatever else the topics hold.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from audit.config import StorySettings
from audit.readers.avro import Registry, UnreadableError
from audit.readers.cluster import EARLIEST, LATEST, Cluster, at_time
from audit.readers.collector import Record, coordinate, texts
from audit.readers.tables import OrderRows, TableReader
from audit.readers.topics import TopicReader
from audit.readers.web import get_json
from audit.terms import Coordinate, Offsets, Spot, below
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION_SENT, ORDERS_CREATED
from onceloop.errors import ExitCode, ReportedError

SLACK_MS = 5 * 60 * 1000
"""How far the clocks of a producer and of the process that made the id may differ."""
STALL_SECONDS = 5.0
HTTP_SECONDS = 3.0
TIME_ORDERED = 7
TOPICS = (ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED, NOTIFICATION_SENT)
OUTCOMES = {INVENTORY_RESERVED, INVENTORY_FAILED}
EVENT_OF = {topic.name: str(topic.value) for topic in TOPICS}


class MalformedIdError(ReportedError):
    """The text is no order id."""

    exit_code = ExitCode.USAGE


class UnknownOrderError(ReportedError):
    """No table and no topic knows the order."""

    exit_code = ExitCode.USAGE


class Sighting(NamedTuple):
    """A record that names the order. `time_ms`: its time stamp; `origin`: the record that it answers.

    `fields`: its event, or under `unreadable` why there is none.
    """

    at: Coordinate
    time_ms: int
    origin: Coordinate | None
    headers: dict[str, str]
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known. `http`: the status document; `http_answer`: how the API answered, in words.

    `no_outcome`: why there is neither a decision nor an event, where there is none.
    """

    order_id: str
    http: dict[str, Any] | None
    http_answer: str
    rows: OrderRows
    created: tuple[Sighting, ...]
    events: tuple[Sighting, ...]
    sent: tuple[Sighting, ...]
    no_outcome: str = ""


def parse_order_id(text: str) -> str:
    """Return the id in canonical text. Raises MalformedIdError."""
    try:
        return str(UUID(text.strip()))
    except ValueError:
        raise MalformedIdError(
            f"{text!r} is no order id",
            cure="take the `order_id` that POST /orders answered, for example 0198c5d2-7c5e-7f10-8a30-5b1f6f0d9c11",
        ) from None


def story_of(settings: StorySettings, order_id: str) -> Story:
    """Gather the story. Raises StoreDownError, or UnknownOrderError if the order is unknown; the API may be down."""
    with ThreadPoolExecutor(2) as pool:  # each waits for a server of its own
        asked = pool.submit(_ask, f"{settings.api_url.rstrip('/')}/orders/{order_id}")
        read = pool.submit(TableReader(settings).order, order_id)
        search = _Search(settings, order_id)
        rows = read.result()
        found = search.run(_likely(rows))
        if not found and rows.empty:
            raise UnknownOrderError(
                f"no topic and no table knows order {order_id}",
                cure="check the id; an order that was answered with 503 may never have been stored",
            )
        http, answer = asked.result()
    outcomes = {topic.name for topic in OUTCOMES}
    answered = rows.decision or any(seen.at.topic in outcomes for seen in found)
    return Story(
        order_id=order_id,
        http=http,
        http_answer=answer,
        rows=rows,
        created=tuple(seen for seen in found if seen.at.topic == ORDERS_CREATED.name),
        events=tuple(seen for seen in found if seen.at.topic in outcomes),
        sent=tuple(seen for seen in found if seen.at.topic == NOTIFICATION_SENT.name),
        no_outcome="" if answered else search.why_undecided(),
    )


def _likely(rows: OrderRows) -> int | None:
    """Return the partition in which the order's records stand if its user's key led all of them there."""
    return rows.decision.owner.partition if rows.decision else None


class _Search:
    """Look for records that name the order, on the partitions that there are when it is made."""

    def __init__(self, settings: StorySettings, order_id: str) -> None:
        self._cluster = Cluster(settings)
        self._registry = Registry(settings.registry_url)
        self._prefix = f"{settings.namespace}." if settings.namespace else ""
        self._order_id = order_id
        self._needle = order_id.encode()
        self._found: list[Sighting] = []
        self._spots = {topic: self._cluster.spots(topic) for topic in TOPICS}

    def run(self, partition: int | None) -> list[Sighting]:
        """Return what is found, topic by topic, in order of offsets; `partition` is looked at first."""
        likely = [spot for each in self._spots.values() for spot in each if spot.partition == partition]
        self._scan(likely)
        missing = set(TOPICS) - {topic for topic in TOPICS for seen in self._found if seen.at.topic == topic.name}
        if len(missing & OUTCOMES) == 1:
            missing -= OUTCOMES  # an order is on one of the two
        self._scan([spot for topic in missing for spot in self._spots[topic] if spot not in likely])
        rank = {topic.name: number for number, topic in enumerate(TOPICS)}
        return sorted(self._found, key=lambda seen: (rank[seen.at.topic], seen.at))

    def why_undecided(self) -> str:
        """Return what keeps an order without a decision from having one, by its records and the inventory's offsets."""
        records = [seen.at for seen in self._found if seen.at.topic == ORDERS_CREATED.name]
        if not records:
            return "there is no record of the order that the inventory could read"
        stands = self._cluster.committed(INVENTORY)
        unread = [at for at in records if not below(at, stands)]
        if not unread:
            return f"the inventory has left {records[0]} behind without a decision"
        return f"the inventory has not read {unread[0]}"

    def _scan(self, spots: Sequence[Spot]) -> None:
        ends = self._cluster.offsets(spots, LATEST)
        begins = {spot: at for spot, at in self._begins(spots).items() if 0 <= at < ends[spot]}
        if begins:
            with TopicReader(self._cluster, begins, self._look) as topics:
                topics.read_to({spot: ends[spot] for spot in begins}, seconds=STALL_SECONDS)

    def _begins(self, spots: Iterable[Spot]) -> Offsets:
        """Return where to begin: at the time in the id, or at the beginning if it holds none."""
        placed_ms = placed_at_ms(self._order_id)
        return self._cluster.offsets(spots, EARLIEST if placed_ms is None else at_time(placed_ms - SLACK_MS))

    def _look(self, record: Record) -> None:
        if record.value is None or self._needle not in record.value:
            return
        fields = self._fields(record)
        if fields.get("order_id", self._order_id) == self._order_id:
            headers = texts(record.headers())
            origin = coordinate(headers, "origin", namespace=self._prefix)
            self._found.append(Sighting(record.at, record.timestamp()[1], origin, headers, fields))

    def _fields(self, record: Record) -> dict[str, Any]:
        try:
            return self._registry.decode(record.value, EVENT_OF[record.at.topic])
        except UnreadableError as error:
            return {"unreadable": str(error)}


def placed_at_ms(order_id: str) -> int | None:
    """Return the time inside a UUIDv7, in milliseconds since the epoch; None for other ids."""
    identity = UUID(order_id)
    return identity.int >> 80 if identity.version == TIME_ORDERED else None


def _ask(url: str) -> tuple[dict[str, Any] | None, str]:
    """Return the status document, if there is one, and the answer in words."""
    try:
        status, document = get_json(url, seconds=HTTP_SECONDS)
    except OSError as error:
        return None, f"GET {url}: no answer ({error})"
    return document, f"GET {url}: {status}"
