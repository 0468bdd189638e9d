"""Where the stores of a subcommand are, and the pipeline's database, opened as the role whose rights it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from common.config import KafkaSettings, PostgresSettings, load
from common.errors import ConfigError, FatalError
from common.postgres.engine import create_engine
from common.postgres.options import Target
from deploy.local import home as homes
from deploy.local.home import read_secret
from deploy.local.servers import addresses_of


def postgres_settings(home: Path, role: str) -> PostgresSettings:
    """Return where the database of the stack in `home` is, for a role; without a stack there ask the environment.

    A stack at hand comes first: a variable left over in a shell never sends a change to another database.
    """
    try:
        addresses = addresses_of(homes.at(home))
    except ConfigError as no_stack:
        try:
            return load(PostgresSettings)
        except ConfigError as unset:
            raise ConfigError(
                f"{no_stack.message}, and the environment names no database:\n{unset.message}", cure=no_stack.cure
            ) from unset
    password = read_secret(addresses.role_secrets_folder / role)
    return PostgresSettings(postgres_url=addresses.postgres_url(role), postgres_password=SecretStr(password))


def kafka_settings(home: Path) -> KafkaSettings:
    """Return where broker and registry of the stack in `home` are, which comes first, or what the environment names."""
    try:
        addresses = addresses_of(homes.at(home))
    except ConfigError as no_stack:
        try:
            return load(KafkaSettings)
        except ConfigError as unset:
            raise ConfigError(
                f"{no_stack.message}, and the environment names no broker:\n{unset.message}", cure=no_stack.cure
            ) from unset
    return KafkaSettings(namespace="", kafka_bootstrap=addresses.kafka_bootstrap, registry_url=addresses.registry_url)


@contextmanager
def connected(home: Path, role: str, *, target: Target = "read-write") -> Iterator[sa.Connection]:
    """Yield a connection. Raises FatalError if the database does not let us in."""
    settings = postgres_settings(home, role)
    engine = create_engine(settings, application="pipeline", pool_size=1, target=target)
    try:
        with _open(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def _open(engine: sa.Engine) -> sa.Connection:
    try:
        return engine.connect()
    except sa.exc.OperationalError as error:
        raise FatalError(
            f"PostgreSQL at {engine.url.host}:{engine.url.port} does not let us in: {error.orig}",
            cure="is the stack up? see `pipeline status`",
        ) from error
