"""An app: a handler, what it reads and writes, where Kafka and PostgreSQL are. The third level of the library.

    app = Once(kafka="127.0.0.1:9092", postgres="postgresql://me@127.0.0.1/books", group="ledger",
               inputs=["payments"], outputs=["payments.booked"])

    @app.each(key=lambda record: record.key)
    def book(record, db):
        db.execute("INSERT INTO entry ...")
        return [OutputRecord("payments.booked", key=record.key, value=b"...")]

    app.main()

Nothing connects before `run` or `init`. The public attributes may be changed until then.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg

from onceloop import given, health, prepare, probe_server
from onceloop.config import KafkaConfig
from onceloop.errors import Busy, ConfigError, ContractError, FatalError
from onceloop.handlers import AllAtOnce, BatchHandler, Each, EachHandler, Handling, Key, OutputCheck, refuse_async
from onceloop.health import Health
from onceloop.kafka.cluster import Cluster
from onceloop.kafka.coverage import CoverageWatch
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.input_logs import InputLogs
from onceloop.kafka.options import Options, consumer_options, transactional_producer_options
from onceloop.kafka.topic_watch import TopicWatch
from onceloop.kafka.transactional_producer import TransactionalProducer
from onceloop.lifecycle import Stop, stop_signal
from onceloop.postgres.address import refuse_unreadable
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.decided import DecidedStep
from onceloop.postgres.decided_table import DecidedTable
from onceloop.postgres.guards import Guards
from onceloop.postgres.guards.progress import Cures, ProgressGuard
from onceloop.postgres.guards.starts import StartGuard
from onceloop.postgres.guards.tables import GuardTables
from onceloop.postgres.guards.topic_id import refuse_another_topic
from onceloop.postgres.retry import rerun
from onceloop.probe_server import Page
from onceloop.records import InputRecord
from onceloop.runtime import Runtime
from onceloop.telemetry import SILENT, Observer
from onceloop.transactional import run

BATCH_RECORDS_MAX = 500
CURES = Cures(
    behind="restart the group's broker, whose log has the right offsets; if it stays, stop the group and set them by"
    " hand to where the table `progress` says",
    ahead="stop the group; if PostgreSQL was restored from a backup, restore the records since then as well; if the"
    " offsets were set ahead, set them back to where the table `progress` says",
)

E = TypeVar("E", bound=EachHandler)
B = TypeVar("B", bound=BatchHandler)


class Once:
    """One app in one slot. Slots count from 0: each process of a group has one of its own.

    `kafka`: a KafkaConfig, or host:port. `postgres`: a URL or connection string; `password` is asked before each
    connect. `schema`: holds the library's tables, one per group, by default named like the group; the handler's
    statements look there first for tables that they name without a schema. `batch_records_max`: the largest batch.
    `surroundings`: exceptions of the handler that speak of the world around and never of a record, such as those of an
    HTTP client; then the batch is tried again after a pause. `topic_prefix`: put before all names of topics on the
    cluster; the handler does not see it. `health_port`: where /livez, /readyz and /metrics are served, on
    `health_host`; None: nowhere, 0: on a free port. A loop that does not move for 75 s ends the process either way.
    """

    def __init__(
        self,
        *,
        kafka: KafkaConfig | str,
        postgres: str,
        group: str,
        inputs: Sequence[str],
        outputs: Sequence[str] = (),
        slot: int = 0,
        schema: str = "",
        password: Callable[[], str] = str,
        batch_records_max: int = BATCH_RECORDS_MAX,
        surroundings: tuple[type[Exception], ...] = (),
        topic_prefix: str = "",
        observer: Observer = SILENT,
        metrics_page: Callable[[], Page] | None = None,
        health_host: str = "127.0.0.1",
        health_port: int | None = None,
    ) -> None:
        self.kafka = KafkaConfig(kafka) if isinstance(kafka, str) else kafka
        self.postgres = postgres
        self.group = group
        self.inputs = list(given.several("inputs", inputs))
        self.outputs = list(given.several("outputs", outputs))
        self.slot = slot
        self.schema = schema or given.schema_of(group)
        self.password = password
        self.batch_records_max = batch_records_max
        self.surroundings = given.exceptions(surroundings)
        self.topic_prefix = topic_prefix
        self.observer = observer
        self.metrics_page = metrics_page
        self.health_host, self.health_port = health_host, health_port
        self.key: Key | None = None
        self.handler: Callable[..., Any] | None = None
        self._kind: Callable[..., Handling] = Each

    def each(self, *, key: Key) -> Callable[[E], E]:
        """Have the decorated function handle each new record: `handler(record, db) -> OutputRecords`.

        `key` names what is to be done once; it must depend on the record's key, value and headers alone. `db`: a
        psycopg connection, inside a transaction that is the library's to end.
        """

        def decorate(handler: E) -> E:
            self._take(key, handler, Each)
            return handler

        return decorate

    def batch(self, *, key: Key) -> Callable[[B], B]:
        """Have the decorated function handle the new records of a batch: `handler(records, db)`, each key once.

        It returns one iterable of OutputRecords per record, in order.
        """

        def decorate(handler: B) -> B:
            self._take(key, handler, AllAtOnce)
            return handler

        return decorate

    def wrap(self, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Have what `wrapper` makes of the handler called in its place: to time it, or to try it out."""
        if self.handler is None:
            raise ContractError("the app has no handler", cure="decorate a function first: @app.each(key=...)")
        self.handler = wrapper(self.handler)

    def run(self, stop: Stop | None = None) -> None:
        """Process until SIGTERM or SIGINT; the batch in hand is finished, no other is taken.

        `stop`: ask for the end by this instead, and leave signals alone. Raises ReportedError for an end with a reason.
        """
        consuming, producing = self._options()
        runtime = Runtime(observer=self.observer)
        state = Health()
        with ExitStack() as opened:
            asked = stop if stop is not None else opened.enter_context(stop_signal())
            opened.enter_context(self._watched(state))
            connection = HotConnection(
                self.postgres, application=f"{self.group}-{self.slot}", password=self.password, runtime=runtime
            )
            opened.callback(connection.drop)
            with _outage_ends():
                tables = self._own_tables(connection)
                cluster = Cluster(self.kafka)
                cluster.refuse_missing(self.topics)
                ids = cluster.topic_ids(self.input_topics)
                refuse_another_topic(connection, tables, ids)
            starts = StartGuard(connection, tables)
            step = self._step(connection, tables, starts)
            opened.enter_context(starts.counting_orderly_ends())
            run(
                step,
                consumer=GroupConsumer(
                    consuming,
                    self.input_topics,
                    service=self.group,
                    topic_prefix=self.topic_prefix,
                    coverage=CoverageWatch(self.kafka, group_id=self.group, topics=self.input_topics),
                    untouched=starts.untouched,
                    runtime=runtime,
                ),
                build_producer=partial(TransactionalProducer, producing, service=self.group, runtime=runtime),
                stop=asked,
                health=state,
                service=self.group,
                watch=TopicWatch(self.kafka, ids),
                sparse_topics=frozenset(self.input_topics),  # their writers may commit transactions
                runtime=runtime,
            )

    def init(self, *, partitions: int | None = None) -> list[str]:
        """Make schema, tables and first offsets, and topics where `partitions` says how many; return what was made.

        May be repeated. Raises ReportedError if a topic is missing and `partitions` None, or where the group has no
        offset although work was done.
        """
        self._options()
        cluster = Cluster(self.kafka)
        application = f"{self.group}-init"
        with (
            _outage_ends(),
            prepare.administration(self.postgres, password=self.password(), application=application) as connection,
        ):
            prepare.make_tables(connection, self.schema, group=self.group, service=self.group)
            made = prepare.make_topics(cluster, self.topics, partitions=partitions)
            begun = prepare.begin_group(
                cluster, connection, schema=self.schema, group_id=self.group, inputs=self.input_topics
            )
        return [*(f"topic {name}" for name in made), *(f"first offset of {at.topic}[{at.number}]" for at in begun)]

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Be the program: `run` (the default) or `init`, as the command line says; end the process."""
        from onceloop.command import main

        main(self, argv)

    @property
    def input_topics(self) -> list[str]:
        """Return the inputs' names on the cluster."""
        return [self.topic_prefix + name for name in self.inputs]

    @property
    def topics(self) -> list[str]:
        """Return all names on the cluster: inputs, outputs and the inputs' dead-letter topics."""
        outputs = [self.topic_prefix + name for name in self.outputs]
        return list(dict.fromkeys([*self.input_topics, *outputs, *map(self.dead_letter_topic, self.input_topics)]))

    def dead_letter_topic(self, topic: str) -> str:
        """Return where this group's dead letters of an input go; both are names on the cluster."""
        return f"{topic}.{self.group}.dlq"

    def _take(self, key: Key, handler: Callable[..., object], kind: Callable[..., Handling]) -> None:
        if self.handler is not None:
            raise ContractError("the app has a handler", cure="make an app per handler: each is a group of its own")
        refuse_async(handler)
        refuse_async(key)
        self.key, self.handler, self._kind = key, handler, kind

    def _watched(self, state: Health) -> AbstractContextManager[object]:
        """Return what ends the process if its loop hangs, and serves its pages where a port is given."""
        if self.health_port is None:
            return health.watched(state, observer=self.observer)
        listener = probe_server.listen(self.health_host, self.health_port)
        pages = {"metrics_page": self.metrics_page} if self.metrics_page else {}
        return health.serve(state, listener, observer=self.observer, **pages)

    def _options(self) -> tuple[Options, Options]:
        """Return the options of consumer and producer. Raises ConfigError for anything that breaks the guarantee."""
        if self.handler is None:
            raise ContractError("the app has no handler", cure="decorate a function: @app.each(key=...)")
        for name in ("inputs", "outputs"):
            given.several(name, getattr(self, name))
        if complaints := list(given.complaints(self)):
            raise ConfigError("\n".join(complaints), cure="correct what Once(...) is given")
        refuse_unreadable(self.postgres)
        return (
            consumer_options(self.kafka, group_id=self.group, slot=self.slot),
            transactional_producer_options(self.kafka, transactional_id=f"{self.group}-{self.slot}"),
        )

    def _own_tables(self, connection: HotConnection) -> GuardTables:
        rerun(lambda each: prepare.refuse_foreign_tables(each, self.schema, group=self.group), connection)
        return GuardTables(self.schema)

    def _step(self, connection: HotConnection, tables: GuardTables, starts: StartGuard) -> DecidedStep:
        assert self.key is not None  # noqa: S101 - `_options` refuses an app without a handler
        letters = {topic: self.dead_letter_topic(topic) for topic in self.input_topics}
        step = DecidedStep(
            self._kind(self.handler, OutputCheck(self.outputs, prefix=self.topic_prefix)),
            self.key,
            connection=connection,
            table=DecidedTable(self.schema, service=self.group),
            service=self.group,
            dead_letters=letters,
            own=self._own_record if self.topic_prefix else _as_it_is,
            records_max=self.batch_records_max,
            surroundings=self.surroundings,
        )
        progress = ProgressGuard(
            connection,
            tables,
            input_log=InputLogs(self.kafka, group_id=self.group, dead_letters=letters),
            undecided=step.undecided,
            cures=CURES,
        )
        step.guards = Guards(starts, progress)
        return step

    def _own_record(self, record: InputRecord) -> InputRecord:
        at = record.partition
        return record._replace(partition=at._replace(topic=at.topic.removeprefix(self.topic_prefix)))


def _as_it_is(record: InputRecord) -> InputRecord:
    return record


@contextmanager
def _outage_ends() -> Iterator[None]:
    """Raise FatalError for a database that does not answer at the start: a supervisor tries again."""
    try:
        yield
    except Busy as busy:
        raise FatalError(str(busy), cure="start PostgreSQL, or correct where it is") from busy
    except psycopg.Error as error:
        raise FatalError(f"PostgreSQL: {error}", cure="look at what it says") from error
