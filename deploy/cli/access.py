"""Where the stores of a subcommand are, and the pipeline's database, opened as the role whose rights it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from common.config import KafkaSettings, PostgresSettings
from deploy.cli.stacks import running_or_named
from deploy.local.home import read_secret
from onceloop.errors import FatalError
from onceloop.postgres.bounded import BoundedConnection
from onceloop.postgres.options import Target, connect_options

if TYPE_CHECKING:
    import sqlalchemy as sa

APPLICATION = "pipeline"


def postgres_settings(home: Path, role: str) -> PostgresSettings:
    """Return where the database of the stack in `home` is, for a role; without a stack there ask the environment."""
    found = running_or_named(home, PostgresSettings, "database")
    if isinstance(found, PostgresSettings):
        return found
    password = read_secret(found.role_secrets_folder / role)
    return PostgresSettings(postgres_url=found.postgres_url(role), postgres_password=SecretStr(password))


def kafka_settings(home: Path) -> KafkaSettings:
    """Return where broker and registry of the stack in `home` are, which comes first, or what the environment names."""
    found = running_or_named(home, KafkaSettings, "broker")
    if isinstance(found, KafkaSettings):
        return found
    return KafkaSettings(namespace="", kafka_bootstrap=found.kafka_bootstrap, registry_url=found.registry_url)


@contextmanager
def connected(home: Path, role: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection in autocommit. Raises FatalError if it cannot connect."""
    with opened(postgres_settings(home, role)) as connection:
        yield connection


@contextmanager
def opened(settings: PostgresSettings) -> Iterator[psycopg.Connection[Any]]:
    """Do as `connected`, where these settings lead."""
    password = settings.postgres_password.get_secret_value() or None
    where = make_conninfo(settings.postgres_url, password=password, **connect_options(APPLICATION))
    try:
        connection = BoundedConnection.connect(where, autocommit=True)
    except psycopg.OperationalError as error:
        raise _shut(settings, error) from error
    with connection:
        yield connection


@contextmanager
def connected_by_engine(home: Path, role: str, *, target: Target = "read-write") -> Iterator["sa.Connection"]:
    """Yield a connection of SQLAlchemy's, which takes its time to import. Raises FatalError as `connected` does."""
    import sqlalchemy as sa

    from common.postgres.engine import create_engine

    settings = postgres_settings(home, role)
    engine = create_engine(settings, application=APPLICATION, pool_size=1, target=target)
    try:
        try:
            connection = engine.connect()
        except sa.exc.OperationalError as error:
            raise _shut(settings, error.orig) from error
        with connection:
            yield connection
    finally:
        engine.dispose()


def _shut(settings: PostgresSettings, why: BaseException | None) -> FatalError:
    server = settings.postgres_url.partition("@")[2].partition("/")[0]
    return FatalError(f"cannot connect to PostgreSQL at {server}: {why}", cure="is the stack up? see `pipeline status`")
