"""Say what an exception of a handler means: for its record, for the handler, or for the world around. Pure."""

import psycopg
from confluent_kafka import KafkaException

from onceloop.errors import Busy, ContractError, Poison, ReportedError
from onceloop.handlers import HandlerRaised
from onceloop.postgres.decided_table import GUARDS
from onceloop.postgres.retry import DIVISION_BY_ZERO, Failure, classify

KILLED_SECONDS = 9.0
"""A connection that is lost after so long was ended by PostgreSQL: transactions, and pauses in one, may take 10 s."""
SURROUNDINGS: tuple[type[Exception], ...] = (Busy, OSError, KafkaException)
"""OSError holds what sockets and TLS raise."""
_CANCELED = "57014"
_OF_STATEMENTS = ("42", "3F", "0A")
"""Classes of SQLSTATE that no value of a record brings about: what is wrong is the statement, or the tables."""


class SlowHandlerError(Exception):
    """PostgreSQL ended the transaction, or a statement of it, because it took too long."""


def meaning(raised: HandlerRaised, seconds: float, surroundings: tuple[type[Exception], ...]) -> Exception:
    """Return what to raise for it; `seconds`: how long the handler had worked.

    HandlerRaised for what may be the record's doing; Busy for the world around, to be tried again after a pause;
    ContractError for a statement that no record makes right; SlowHandlerError; psycopg.Error, which `rerun` judges.
    """
    error = raised.error
    if isinstance(error, psycopg.Error):
        return _of_database(error, raised, seconds)
    if isinstance(error, ReportedError | MemoryError):
        return error
    if isinstance(error, (*SURROUNDINGS, *surroundings)):
        return Busy(f"the handler raised {type(error).__name__}: {error}")
    return raised


def slow_or(error: psycopg.Error, seconds: float) -> Exception:
    """Return SlowHandlerError for a connection that PostgreSQL ended because the transaction took too long, or it."""
    if classify(error, GUARDS) is Failure.CONNECTION and seconds >= KILLED_SECONDS:
        return SlowHandlerError(str(error))
    return error


def _of_database(error: psycopg.Error, raised: HandlerRaised, seconds: float) -> Exception:
    if error.sqlstate == _CANCELED:
        return SlowHandlerError(str(error))
    failure = classify(error, GUARDS)
    if failure is Failure.DATA or error.sqlstate == DIVISION_BY_ZERO:
        return HandlerRaised(Poison(f"PostgreSQL rejects a value: {_said(error)}"), raised.index)
    if failure is not Failure.BUG:
        return slow_or(error, seconds)
    if error.sqlstate is None or error.sqlstate.startswith(_OF_STATEMENTS):
        return ContractError(
            f"PostgreSQL refuses a statement of the handler: {_said(error)}",
            cure="mend the statement, the tables or the rights; the records stay where they are",
        )
    return raised  # of another worker's doing, the next attempt finds its decision; else of the record's


def _said(error: psycopg.Error) -> str:
    """Return what the server says, or the client where the server was not asked."""
    return f"{error.sqlstate} {error.diag.message_primary}" if error.sqlstate else str(error)
