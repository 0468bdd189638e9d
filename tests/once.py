"""An app of `onceloop` in a world of its own: a database, topics, a process's life in a thread."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from onceloop import KafkaConfig, Once
from onceloop.lifecycle import Stop
from tests.stack import Stack

SECONDS = 40.0


class World:
    """Where one test's app lives. `dsn`: its own database; `ledger`, a table of the handler's, is in it."""

    def __init__(self, stack: Stack, dsn: str) -> None:
        self.dsn = dsn
        self.bootstrap = stack.settings.kafka_bootstrap
        self.token = secrets.token_hex(4)
        self.dead_letters = f"in-{self.token}.group-{self.token}.dlq"

    def app(self, **changes: Any) -> Once:
        """Return an app without a handler, that reads `in` and writes `out`."""
        given: dict[str, Any] = {
            "kafka": KafkaConfig(self.bootstrap),
            "postgres": self.dsn,
            "group": f"group-{self.token}",
            "schema": "app",
            "inputs": [f"in-{self.token}"],
            "outputs": [f"out-{self.token}"],
        }
        return Once(**{**given, **changes})

    def prepared(self, app: Once, *, partitions: int = 1) -> Once:
        """Return the app with everything made that it needs, and a table for its handler."""
        app.init(partitions=partitions)
        self.execute("CREATE TABLE IF NOT EXISTS app.ledger (key text, number int GENERATED ALWAYS AS IDENTITY)")
        return app

    def write(self, *records: tuple[str | None, str], topic: str = "") -> None:
        """Write key and value each, in order, to one partition of the app's input, or of another topic."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for key, value in records:
            producer.produce(topic or f"in-{self.token}", value.encode(), key and key.encode(), partition=0)
        assert producer.flush(SECONDS) == 0

    def read(self, topic: str) -> list[Message]:
        """Return what is committed on a topic, partition by partition."""
        options = {
            "bootstrap.servers": self.bootstrap,
            "group.id": f"reader-{self.token}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
        found: list[Message] = []
        with closing(Consumer(options)) as consumer:
            numbers = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
            left = len(numbers)
            while left and (message := consumer.poll(SECONDS)) is not None:
                error = message.error()
                if error is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left -= 1
        return found

    def published(self) -> list[tuple[bytes | None, bytes | None]]:
        """Return key and value of what the app published."""
        return [(message.key(), message.value()) for message in self.read(f"out-{self.token}")]

    def refused(self) -> list[tuple[bytes | None, str]]:
        """Return key and kind of the dead letters."""
        return [
            (message.key(), str(dict(message.headers() or [])["dlq_error_class"], "utf-8"))  # type: ignore[arg-type]
            for message in self.read(self.dead_letters)
        ]

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in the database; return its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def forget(self, group: str) -> None:
        """Have the broker delete the group, once the session of its last member has ended."""
        client = AdminClient({"bootstrap.servers": self.bootstrap})
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                client.delete_consumer_groups([group])[group].result(SECONDS)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def ledger(self) -> list[str]:
        """Return what the handler wrote, in that order."""
        return [key for (key,) in self.execute("SELECT key FROM app.ledger ORDER BY number")]


class Life:
    """One run of an app, in a thread. `error`: how it ended by itself."""

    def __init__(self, app: Once) -> None:
        self.error: BaseException | None = None
        self._app = app
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; fail if the app ends before, or after 40 s."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self._thread.is_alive(), self.error
            assert time.monotonic() < deadline, "not within 40 s"
            time.sleep(0.1)

    def ended(self) -> BaseException:
        """Return why it ended by itself."""
        self._thread.join(SECONDS)
        assert self.error is not None, "it did not end"
        return self.error

    def stop(self) -> None:
        """Let it finish its batch and end."""
        self._stop.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._app.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error


@contextmanager
def running(app: Once) -> Iterator[Life]:
    """Run the app until the block ends."""
    life = Life(app)
    try:
        yield life
    finally:
        life.stop()


@contextmanager
def world_of(stack: Stack) -> Iterator[World]:
    """Yield a world with a database of its own."""
    settings = stack.settings
    admin = make_conninfo(settings.postgres_admin_url, password=settings.postgres_admin_password.get_secret_value())
    name = f"once_{secrets.token_hex(4)}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield World(stack, make_conninfo(admin, dbname=name))
        finally:
            with suppress(psycopg.Error):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
