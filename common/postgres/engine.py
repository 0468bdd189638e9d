"""SQLAlchemy engines: bounded waits on every path, and no password in a URL that anybody could log.

Build an engine after fork and in no module's body: its pool holds sockets, which two processes must not share.
"""

import select
from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

from common.config import PostgresSettings
from onceloop.postgres.bounded import BoundedConnection
from onceloop.postgres.options import Target, connect_options

POOL_WAIT_SECONDS = 3.0
ANSWER_SECONDS: Mapping[Target, float] = {"read-write": 7.0, "any": 70.0}
"""For one answer: above the statement time-out that the server keeps, for the day on which it keeps nothing."""


def create_engine(
    settings: PostgresSettings,
    *,
    application: str,
    pool_size: int,
    target: Target = "read-write",
    autocommit: bool = False,
) -> sa.Engine:
    """Return an engine that connects lazily, never with more than `pool_size` connections.

    `application` is the name that `pg_stat_activity` shows. A caller waits at most 3 s for a free connection, 3 s for
    the server to take one, and 7 s for an answer; a connection that a restart of the server cut is replaced before it
    is used. Statement parameters stay out of error texts: they hold user ids. `target`: services write, so a server
    that refuses writes is not theirs; readers (roles whose sessions are read-only, with time-outs of their own) say
    "any". `autocommit`: each statement is its own transaction, without a word to the server about it.
    """
    url = sa.make_url(settings.postgres_url).set(
        drivername="postgresql+psycopg", password=settings.postgres_password.get_secret_value() or None
    )
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_reset_on_return=None if autocommit else "rollback",
        isolation_level="AUTOCOMMIT" if autocommit else None,
        pool_use_lifo=True,  # idle connections age at one end and go first when the server closes them
        hide_parameters=True,
        connect_args=connect_options(application, target=target),
    )

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: sa.Dialect, _record: Any, positional: Any, named: Any) -> psycopg.Connection[Any]:
        if password := settings.secret("postgres_password"):
            named["password"] = password  # as it is now: it may have been replaced since the last connection
        connection = BoundedConnection.connect(*positional, **named)
        connection.answer_seconds = ANSWER_SECONDS[target]
        return connection

    sa.event.listen(engine, "checkout", _refuse_dead)
    return engine


def _refuse_dead(connection: psycopg.Connection[Any], _record: Any, _proxy: Any) -> None:
    """Have the pool replace a connection that the server has ended; a look at the socket, where a ping is a round trip.

    An idle connection has nothing to read but its end.
    """
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    if look.poll(0):
        raise sa.exc.DisconnectionError("the server ended an idle connection")
