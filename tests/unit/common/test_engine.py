"""Engines are bounded, and keep their password to themselves."""

import sqlalchemy as sa
from pydantic import SecretStr

from common.config import PostgresSettings
from common.postgres.engine import create_engine
from common.postgres.options import connect_options

SETTINGS = PostgresSettings(
    postgres_url="postgresql://order_rw@127.0.0.1:5432/pipeline", postgres_password=SecretStr("hush")
)


def test_an_engine_never_shows_its_password() -> None:
    engine = create_engine(SETTINGS, application="test", pool_size=1)
    assert engine.url.password == "hush"
    assert "hush" not in f"{engine!r} {engine.url} {SETTINGS!r}"


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
