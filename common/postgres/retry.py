"""Run a unit of database work again, whole, when that can help; say Busy or Poison when it cannot.

What a failure means is read from its SQLSTATE. The work must be idempotent by key: a connection that is lost at COMMIT
leaves open whether it committed, and the next attempt finds out.
"""

import random
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

import psycopg

from common.errors import Busy, Poison
from common.log import get_logger
from common.postgres.connection import HotConnection

ATTEMPTS_MAX = 8
BUDGET_SECONDS = 20.0

T = TypeVar("T")
log = get_logger()


class Failure(Enum):
    """What to do about a database error."""

    GUARD = auto()
    """A constraint says that another worker was faster: again at once, on a fresh snapshot."""
    CONTENTION = auto()
    """Deadlock, serialization, lock or statement time-out: again after a wait."""
    CONNECTION = auto()
    """Lost, shut down, or a server that does not write: again on a new connection."""
    EXHAUSTED = auto()
    """Disk, memory or connections are out: pause."""
    DATA = auto()
    """The server rejects a value for good."""
    BUG = auto()
    """A missing table or right: no retry and no dead letter can cure it."""


_GUARD_CONSTRAINTS = frozenset({"decision_pkey", "stock_available_ge_0"})
_DIVISION_BY_ZERO = "22012"  # the row count of the late lock did not match
_CONTENTION = frozenset({"40P01", "40001", "55P03", "57014"})
_READ_ONLY = "25006"


def classify(error: psycopg.Error) -> Failure:
    """Return what an error asks for. Source: PostgreSQL, Appendix A, error codes."""
    state = error.sqlstate or ""
    if error.diag.constraint_name in _GUARD_CONSTRAINTS or state == _DIVISION_BY_ZERO:
        return Failure.GUARD
    if state in _CONTENTION:
        return Failure.CONTENTION
    if state.startswith(("08", "57P0")) or state in {_READ_ONLY, "25P03", "25P04"}:
        return Failure.CONNECTION
    if state.startswith("53"):
        return Failure.EXHAUSTED
    if state.startswith(("22", "23")):
        return Failure.DATA
    # Without a SQLSTATE it is libpq that speaks: the connection is gone, or could not be made.
    return Failure.CONNECTION if isinstance(error, psycopg.OperationalError) and not state else Failure.BUG


def rerun(work: Callable[[psycopg.Connection], T], connection: HotConnection) -> T:
    """Return what `work` returns, after at most 8 attempts within 20 s.

    Raises Busy when the attempts are spent or the server does not answer, Poison when the data is rejected, and
    psycopg.Error as it came when only a person can help.
    """
    deadline = time.monotonic() + BUDGET_SECONDS
    for attempt in range(ATTEMPTS_MAX):
        try:
            result = work(connection.get())
            if not connection.warned:
                return result
            connection.drop()  # a cancelled wait for the standby is no commit: the next attempt finds out
        except psycopg.Error as error:
            failure = classify(error)
            log.info("work.failed", attempt=attempt, failure=failure.name.lower(), sqlstate=error.sqlstate)
            _clean_up(connection, failure)
            match failure:
                case Failure.EXHAUSTED:
                    raise Busy(f"PostgreSQL is out of resources: {error.sqlstate}") from error
                case Failure.DATA:
                    raise Poison(
                        f"PostgreSQL rejects a value: {error.sqlstate} {error.diag.message_primary}"
                    ) from error
                case Failure.BUG:
                    raise
            if time.monotonic() > deadline:
                break
            if failure is not Failure.GUARD or attempt > 0:
                time.sleep(random.uniform(0.2, 1.0) * min(0.01 * 2**attempt, 0.5))  # noqa: S311 - jitter
    raise Busy("PostgreSQL does not let the batch through")


def _clean_up(connection: HotConnection, failure: Failure) -> None:
    if failure is Failure.CONNECTION:
        connection.drop()
    else:
        connection.recover()
