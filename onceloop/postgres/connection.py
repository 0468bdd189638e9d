"""The psycopg connection of the hot path: autocommit, pipelines, plans that suit an empty table, bounded waits.

One per process, built lazily and rebuilt after every loss; transactions are written out, BEGIN and COMMIT included, so
that a COMMIT can be queued with what it commits and a stopped client holds no lock.
"""

from collections.abc import Callable

import psycopg
from psycopg.conninfo import make_conninfo

from onceloop.postgres.bounded import BoundedConnection
from onceloop.postgres.options import connect_options
from onceloop.runtime import REAL, Runtime


def _no_password() -> str:
    """Return none: it stands in the URL, or the server asks for none."""
    return ""


class HotConnection:
    """A connection that is there when it is asked for.

    `application`: its name in `pg_stat_activity`. `password` is asked before each connect, since it may be replaced.
    """

    def __init__(
        self, url: str, *, application: str, password: Callable[[], str] = _no_password, runtime: Runtime = REAL
    ) -> None:
        self.runtime = runtime
        self._url = url
        self._password = password
        self._application = application
        self._connection: psycopg.Connection | None = None
        self.warned = False
        """The server warned since the connection was opened: a COMMIT may not have reached the standby."""
        self.opened = 0
        """How often it was opened: behind a new one the server may have been restored from a backup."""

    def get(self) -> psycopg.Connection:
        """Return the connection, opened if need be. Raises psycopg.OperationalError if the server does not answer."""
        if self._connection is None or self._connection.closed:
            self._connection = BoundedConnection.connect(
                make_conninfo(
                    self._url,
                    password=self._password() or None,
                    **connect_options(self._application),
                ),
                autocommit=True,
                prepare_threshold=0,  # few statements, run for ever
            )
            self._connection.add_notice_handler(self._on_notice)
            self.warned = False
            self.opened += 1
            # A plan made while `decision` is empty scans the table; it would still do so when it holds millions.
            self._connection.execute("SET enable_seqscan = off")
        return self._connection

    def drop(self) -> None:
        """Close, whatever the state; the server rolls back what was open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def recover(self) -> None:
        """Leave a failed transaction; a connection that cannot is dropped."""
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg.Error:
            self.drop()

    def answers(self) -> bool:
        """Return True if the server takes a statement."""
        try:
            self.get().execute("SELECT 1")
        except psycopg.Error:
            self.drop()
            return False
        return True

    def _on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.warned = True
