"""Handlers with one mistake each, for the tests of `onceloop.testing`: every rule has one that breaks it.

Each books payments, key `pN`, value {"cents": ...}, into `entry`, which lets an entry stand twice.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import psycopg
from psycopg.conninfo import conninfo_to_dict

from onceloop import InputRecord, Once, OutputRecord, Refused
from onceloop.testing import Case

BOOK = "INSERT INTO entry VALUES (%s, %s)"
WAITS = b"p7"


def by_key(record: InputRecord) -> bytes:
    return record.key or b""


def made(handler: Callable[[Once, InputRecord, Any], None], *, key: Callable[[InputRecord], Any] = by_key) -> Once:
    app = Once(
        kafka="127.0.0.1:9092",
        postgres="postgresql://127.0.0.1/ledger",
        group=handler.__name__,
        inputs=["payments"],
        outputs=["payments.booked"],
    )

    @app.each(key=key)
    def handle(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
        handler(app, record, db)
        return [OutputRecord("payments.booked", key=record.key, value=record.value)]

    return app


def row(record: InputRecord) -> tuple[str, int]:
    return by_key(record).decode(), json.loads(record.value or b"")["cents"]


def right(_app: Once, record: InputRecord, db: psycopg.Connection) -> None:
    db.execute(BOOK, row(record))


def books_on_its_own_connection(app: Once, record: InputRecord, _db: psycopg.Connection) -> None:
    with psycopg.connect(app.postgres, autocommit=True) as own:
        own.execute(BOOK, row(record))


def writes_a_file(app: Once, record: InputRecord, _db: psycopg.Connection) -> None:
    with journal(str(conninfo_to_dict(app.postgres)["dbname"])).open("a") as file:
        file.write(f"{row(record)[0]}\n")


def publishes_by_itself(app: Once, record: InputRecord, _db: psycopg.Connection) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": app.kafka.bootstrap})
    producer.produce(app.topic_prefix + "payments.booked", b"booked at once", record.key)
    producer.flush(5)


def ends_the_transaction(_app: Once, record: InputRecord, db: psycopg.Connection) -> None:
    db.execute(BOOK, row(record))
    db.commit()


def waits_for_ever(_app: Once, record: InputRecord, db: psycopg.Connection) -> None:
    db.execute(BOOK, row(record))
    while record.key == WAITS:
        time.sleep(0.1)


def remembers_by_itself(_app: Once, record: InputRecord, db: psycopg.Connection) -> None:
    if record.key in SEEN:
        raise Refused("seen before")
    SEEN.add(record.key)
    db.execute(BOOK, row(record))


SEEN: set[bytes | None] = set()


def journal(database: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{database}.journal"


def journal_lines(connection: psycopg.Connection) -> list[tuple[str]]:
    file = journal(connection.info.dbname)
    lines = file.read_text(encoding="utf-8").splitlines()
    file.unlink()
    return [(line,) for line in lines]


sound = made(right)
own_connection = made(books_on_its_own_connection)
own_file = made(writes_a_file)
own_producer = made(publishes_by_itself)
own_commit = made(ends_the_transaction)
own_memory = made(remembers_by_itself)
endless = made(waits_for_ever)
key_by_place = made(right, key=lambda record: f"{record.partition.number}-{record.offset}")


def case(name: str, **changes: Any) -> Case:
    given: dict[str, Any] = {
        "app": f"tests.wrong_handlers:{name}",
        "setup": "CREATE TABLE entry (id text, cents int)",
        "records": [(f"p{n}", json.dumps({"cents": 100 + n})) for n in range(24)],
        "effects": "SELECT id, cents FROM entry",
    }
    return Case(**{**given, **changes})
