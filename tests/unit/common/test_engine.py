"""Engines are bounded, and keep their password to themselves."""

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from common.config import PostgresSettings, load
from common.postgres.engine import create_engine
from common.postgres.outage import outage_is_busy
from onceloop.errors import Busy
from onceloop.postgres.bounded import BoundedConnection
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.options import connect_options
from onceloop.postgres.retry import rerun

SETTINGS = PostgresSettings(
    postgres_url="postgresql://order_rw@127.0.0.1:5432/pipeline", postgres_password=SecretStr("hush")
)


def test_an_engine_never_shows_its_password() -> None:
    engine = create_engine(SETTINGS, application="test", pool_size=1)
    assert engine.url.password == "hush"
    assert "hush" not in f"{engine!r} {engine.url} {SETTINGS!r}"


@pytest.fixture
def rotated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PostgresSettings:
    """Return settings whose password was replaced in its file since they were read."""
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "password"
    file.write_text("hush")
    monkeypatch.setenv("PIPELINE_POSTGRES_URL", SETTINGS.postgres_url)
    monkeypatch.setenv("PIPELINE_POSTGRES_PASSWORD_FILE", str(file))
    settings = load(PostgresSettings)
    file.write_text("psst")
    return settings


@pytest.fixture
def passwords(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what connections are asked for with; each is refused, as by a server that has another password."""
    asked: list[str] = []

    def refuse(conninfo: str = "", **options: Any) -> None:
        asked.append(str(options.get("password") or conninfo_to_dict(conninfo)["password"]))
        raise psycopg.OperationalError('FATAL:  password authentication failed for user "order_rw"')

    monkeypatch.setattr(BoundedConnection, "connect", refuse)
    return asked


def test_an_engine_connects_with_the_password_that_stands_in_its_file_now(
    rotated: PostgresSettings, passwords: list[str]
) -> None:
    engine = create_engine(rotated, application="test", pool_size=1)
    with pytest.raises(Busy, match="refuses the password"), outage_is_busy():
        engine.connect()
    assert passwords == ["psst"]


def test_the_hot_connection_does_too(rotated: PostgresSettings, passwords: list[str]) -> None:
    connection = HotConnection(rotated.postgres_url, application="test", password=rotated.password)
    with pytest.raises(Busy, match="refuses the password"):
        rerun(lambda given: given.execute("SELECT 1"), connection)
    assert set(passwords) == {"psst"}


def test_an_engine_opens_no_more_connections_than_its_pool_has() -> None:
    engine = create_engine(SETTINGS, application="test", pool_size=3)
    assert isinstance(engine.pool, sa.QueuePool)
    assert engine.pool.size() == 3
    assert engine.pool.overflow() <= 0


def test_every_wait_of_a_service_has_an_end() -> None:
    options = connect_options("test")
    assert options["connect_timeout"] == 3
    assert options["target_session_attrs"] == "read-write"
    for bound in ("statement_timeout=5s", "lock_timeout=2s", "transaction_timeout=10s"):
        assert f"-c {bound}" in str(options["options"])


def test_a_reader_takes_any_server_and_the_time_outs_of_its_role() -> None:
    options = connect_options("test", target="any")
    assert options["target_session_attrs"] == "any"
    assert "options" not in options
