"""Distinguish an outage from a bug, for work that goes through an engine.

An outage is no fault of the records and passes: `Busy`. A bug keeps its own exception, so that it is seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from onceloop.errors import Busy, Poison
from onceloop.postgres.retry import Failure, classify

DATABASE_ERRORS: tuple[type[Exception], ...] = (psycopg.Error, sa.exc.DBAPIError)
"""Errors that speak of the database, never of a record that was worked on."""


@contextmanager
def outage_is_busy() -> Iterator[None]:
    """Raise Busy for what passes by itself: no connection, no time, no resources, a lock; Poison for a rejected value.

    A violated constraint is a bug, as in `retry`: what races here is written with ON CONFLICT.

    The transaction inside is over either way; when the connection was lost at COMMIT, how it ended is unknown.
    """
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise Busy("PostgreSQL: all connections of this process are in use") from error
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error):
            raise
        reason = f"PostgreSQL: {error.orig.sqlstate or _without_state(error.orig)}"
        match classify(error.orig):
            case Failure.CONNECTION | Failure.CONTENTION | Failure.EXHAUSTED:
                raise Busy(reason) from error
            case Failure.DATA:
                raise Poison(reason) from error
            case Failure.GUARD | Failure.BUG:
                raise


def _without_state(error: psycopg.Error) -> str:
    """Return what libpq says in its own words, as far as it distinguishes an outage from a replaced password."""
    return "it refuses the password" if "authentication failed" in str(error) else "no connection"
