"""Run a unit of database work again, whole, when that can help; say Busy or Poison when it cannot.

What a failure means is read from its SQLSTATE. The work must be idempotent by key: a connection that is lost at COMMIT
leaves open whether it committed, and the next attempt finds out.

What a violated constraint means cannot be read from its SQLSTATE: that another worker was faster, that a record is
bad, or that a statement is wrong. The caller names those that say "another worker was faster"; any other violation is
a bug, loud, and never a reason to give a record up.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

import psycopg

from onceloop.errors import Busy, ContractError, Poison
from onceloop.postgres.connection import HotConnection

ATTEMPTS_MAX = 8
BUDGET_SECONDS = 20.0

DIVISION_BY_ZERO = "22012"
"""What `SELECT 1 / (count(*) = n)::int` says if the rows it has locked are not n: a guard, for those who name it."""

T = TypeVar("T")


class Failure(Enum):
    """What to do about a database error."""

    GUARD = auto()
    """What the caller named says that another worker was faster: again at once, on a fresh snapshot."""
    CONTENTION = auto()
    """Deadlock, serialization, lock or statement time-out: again after a wait."""
    CONNECTION = auto()
    """Lost, shut down, or a server that does not write: again on a new connection."""
    EXHAUSTED = auto()
    """Disk, memory or connections are out: pause."""
    DATA = auto()
    """The server rejects a value for good."""
    BUG = auto()
    """A missing table or right, a constraint that is not named: no retry and no dead letter can cure it."""


_NO_GUARDS: frozenset[str] = frozenset()
_OF_NO_VALUE = frozenset({DIVISION_BY_ZERO, "2200H"})  # 2200H: a sequence is used up
_CONTENTION = frozenset({"40P01", "40001", "55P03", "57014"})
_READ_ONLY = "25006"


def classify(error: psycopg.Error, guards: frozenset[str] = _NO_GUARDS) -> Failure:
    """Return what an error asks for. `guards`: names of constraints, and SQLSTATEs, by which another worker was faster.

    Source: PostgreSQL, Appendix A, error codes.
    """
    state = error.sqlstate or ""
    if not guards.isdisjoint({error.diag.constraint_name, state}):
        return Failure.GUARD
    if state in _CONTENTION:
        return Failure.CONTENTION
    if state.startswith(("08", "57P0")) or state in {_READ_ONLY, "25P03", "25P04"}:
        return Failure.CONNECTION
    if state.startswith("53"):
        return Failure.EXHAUSTED
    # Without a SQLSTATE the client already cannot write the value down, such as a text with a zero byte.
    unwritable = not state and isinstance(error, psycopg.DataError)
    if unwritable or (state.startswith("22") and state not in _OF_NO_VALUE):
        return Failure.DATA
    # Without a SQLSTATE it is libpq that speaks: the connection is gone, or could not be made.
    return Failure.CONNECTION if isinstance(error, psycopg.OperationalError) and not state else Failure.BUG


def rerun(
    work: Callable[[psycopg.Connection], T], connection: HotConnection, *, guards: frozenset[str] = _NO_GUARDS
) -> T:
    """Return what `work` returns, after at most 8 attempts within 20 s. `guards`: as in `classify`.

    Raises Busy when the attempts are spent or the server does not answer, Poison when a value is rejected,
    ContractError for a violated constraint that is none of the guards, and psycopg.Error as it came when only a person
    can help.
    """
    clock, observer = connection.runtime.clock, connection.runtime.observer
    deadline = clock.monotonic() + BUDGET_SECONDS
    last: psycopg.Error | None = None
    for attempt in range(ATTEMPTS_MAX):
        try:
            result = work(connection.get())
            if not connection.warned:
                return result
            connection.drop()  # a cancelled wait for the standby is no commit: the next attempt finds out
        except psycopg.Error as error:
            failure = classify(error, guards)
            observer.log(
                "info",
                "work.failed",
                attempt=attempt,
                failure=failure.name.lower(),
                sqlstate=error.sqlstate,
                error=None if failure is Failure.DATA else _first_line(error),  # such a text quotes the value
            )
            last = error
            _clean_up(connection, failure)
            match failure:
                case Failure.EXHAUSTED:
                    raise Busy(f"PostgreSQL is out of resources: {error.sqlstate}") from error
                case Failure.DATA:
                    raise Poison(
                        f"PostgreSQL rejects a value: {error.sqlstate} {error.diag.message_primary}"
                    ) from error
                case Failure.BUG:
                    if constraint := error.diag.constraint_name:
                        raise _unnamed(constraint) from error
                    raise
            if clock.monotonic() > deadline:
                break
            if failure is not Failure.GUARD or attempt > 0:
                clock.sleep(connection.runtime.jitter(0.2, 1.0) * min(0.01 * 2**attempt, 0.5))
    raise _busy(last) from last


def _busy(last: psycopg.Error | None) -> Busy:
    if last is None:
        return Busy("PostgreSQL does not let the batch through: no standby confirms its commits")
    refused = "authentication failed" in str(last)
    what = "PostgreSQL refuses the password" if refused else "PostgreSQL does not let the batch through"
    return Busy(f"{what}: {_first_line(last)}")


def _first_line(error: psycopg.Error) -> str:
    """Return what the error says without details, which may hold a row. libpq's texts never hold a password."""
    return str(error).partition("\n")[0].strip() or type(error).__name__


def _unnamed(constraint: str) -> ContractError:
    return ContractError(
        f"PostgreSQL: {constraint} is violated, and the service does not say what that means",
        cure="if it means that another worker was faster, name it among the guards; else mend the statement."
        " The records stay where they are",
    )


def _clean_up(connection: HotConnection, failure: Failure) -> None:
    if failure is Failure.CONNECTION:
        connection.drop()
    else:
        connection.recover()
