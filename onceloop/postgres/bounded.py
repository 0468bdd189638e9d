"""A psycopg connection whose every wait ends.

Time-outs that the server keeps do not help against a server that has stopped: frozen, or behind a network that
swallows packets while something in between still acknowledges them. Then only the client's own clock counts.
"""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

WAIT_SLICE_SECONDS = 0.1

T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself when the server has not answered for `answer_seconds`: more than the server's own time-outs."""

    answer_seconds = 12.0
    warned = False
    """The server warned of something: if of a COMMIT, it may not have reached the standby."""

    def wait(self, gen: PQGen[T], interval: float = WAIT_SLICE_SECONDS, timeout: float | None = None) -> T:
        """Wait as psycopg does, but not for ever.

        Raises psycopg.OperationalError, without SQLSTATE and with the connection closed: what was asked may have been
        done all the same.
        """
        bound = self.answer_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, bound)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - its docstring asks callers to convert it
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {bound:.0f} s") from error
