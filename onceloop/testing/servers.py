"""Which broker and database the trials use, and whether they may."""

import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

BOOTSTRAP = "127.0.0.1:9092"
DSN = "postgresql://postgres@127.0.0.1:5432/postgres"
ANSWER_SECONDS = 2.0
KAFKA_SECONDS = 10.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class UnfitServersError(Exception):
    """The servers are not there, or not for tests; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Servers:
    """`bootstrap`: the broker's host:port. `dsn`: a postgresql:// URL of a role that may create databases."""

    bootstrap: str
    dsn: str

    @property
    def database_address(self) -> tuple[str, int]:
        """Return host and port of the database."""
        url = urlsplit(self.dsn)
        return url.hostname or "", url.port or 5432


def found(bootstrap: str, dsn: str) -> Servers | None:
    """Return what the options or the environment name; None if they name neither."""
    bootstrap = bootstrap or os.environ.get("ONCELOOP_BOOTSTRAP", "")
    dsn = dsn or os.environ.get("ONCELOOP_DSN", "")
    return Servers(bootstrap or BOOTSTRAP, dsn or DSN) if bootstrap or dsn else None


def check(servers: Servers, *, anywhere: bool) -> None:
    """Raise UnfitServersError unless both are there, on this machine (or anywhere, if that is asked for)."""
    url = urlsplit(servers.dsn)
    if url.scheme not in {"postgresql", "postgres"} or not url.hostname:
        raise UnfitServersError(f"--onceloop-dsn: a URL like {DSN} is needed, not {servers.dsn!r}")
    at = [_address(each, 9092) for each in servers.bootstrap.split(",")] + [servers.database_address]
    for host, port in at:
        if host not in LOOPBACK and not anywhere:
            raise UnfitServersError(
                f"{host} is another machine. The trials create and delete topics and databases and cut connections:"
                " add --onceloop-anywhere if that is meant"
            )
        try:
            socket.create_connection((host, port), ANSWER_SECONDS).close()
        except OSError as error:
            raise UnfitServersError(
                f"nothing answers at {host}:{port} ({error}). Start a broker and PostgreSQL there, or name others by"
                " --onceloop-bootstrap HOST:PORT --onceloop-dsn postgresql://USER@HOST:PORT/DATABASE"
            ) from error


def try_out(servers: Servers) -> None:
    """Raise UnfitServersError if the broker does not speak Kafka, or the database does not let the role in."""
    import psycopg
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient({"bootstrap.servers": servers.bootstrap, "log_level": 0}).list_topics(timeout=KAFKA_SECONDS)
    except KafkaException as error:
        raise UnfitServersError(f"no Kafka broker answers at {servers.bootstrap}: {error.args[0].str()}") from error
    may = "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
    try:
        with psycopg.connect(servers.dsn, connect_timeout=int(ANSWER_SECONDS)) as connection:
            row = connection.execute(may).fetchone()
    except psycopg.Error as error:
        raise UnfitServersError(
            f"PostgreSQL does not let us in: {str(error).strip()}. Name another role or password by --onceloop-dsn or"
            " ONCELOOP_DSN"
        ) from error
    if not row or not row[0]:
        raise UnfitServersError(
            "each trial has a database of its own, and this role may not create any: ALTER ROLE ... CREATEDB, or"
            " another role by --onceloop-dsn"
        )


def _address(text: str, port: int) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    return (host.strip("[]"), int(number)) if host and number.isdecimal() else (text, port)
