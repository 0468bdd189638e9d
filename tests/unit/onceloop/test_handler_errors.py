import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from onceloop.errors import Busy, ContractError, Poison, ReportedError
from onceloop.handlers import HandlerRaised
from onceloop.postgres.handler_errors import KILLED_SECONDS, SlowHandlerError, meaning, slow_or


class StrangerError(Exception):
    """An exception of some client library."""


def meant(error: Exception, *, seconds: float = 0.1) -> Exception:
    return meaning(HandlerRaised(error, 3), seconds, (StrangerError,))


@pytest.mark.parametrize(
    "error", [OSError("refused"), TimeoutError(), KafkaException(KafkaError(1)), StrangerError("502"), Busy("later")]
)
def test_world_around_is_never_held_against_a_record(error: Exception) -> None:
    assert isinstance(meant(error), Busy)


@pytest.mark.parametrize("error", [KeyError("amount"), psycopg.errors.CheckViolation("account_cents_check")])
def test_what_a_record_may_bring_about_is_judged_with_its_index(error: Exception) -> None:
    raised = meant(error)
    assert isinstance(raised, HandlerRaised)
    assert raised.index == 3


@pytest.mark.parametrize(
    "error", [psycopg.errors.NumericValueOutOfRange("too large"), psycopg.DataError("a zero byte")]
)
def test_value_that_postgresql_rejects_is_poison(error: Exception) -> None:
    raised = meant(error)
    assert isinstance(raised, HandlerRaised)
    assert isinstance(raised.error, Poison)


@pytest.mark.parametrize("error", [psycopg.errors.UndefinedTable("no account"), psycopg.errors.SyntaxError("FORM")])
def test_statement_that_no_record_makes_right_ends_the_process_with_a_reason(error: Exception) -> None:
    assert isinstance(meant(error), ContractError)


@pytest.mark.parametrize("error", [psycopg.errors.DeadlockDetected(), psycopg.OperationalError("gone")])
def test_database_s_troubles_are_left_to_rerun(error: Exception) -> None:
    assert meant(error) is error


def test_connection_that_is_lost_late_was_ended_for_being_slow() -> None:
    error = psycopg.OperationalError("terminated")
    assert isinstance(meant(error, seconds=KILLED_SECONDS), SlowHandlerError)
    assert isinstance(slow_or(error, KILLED_SECONDS), SlowHandlerError)
    assert slow_or(error, 1.0) is error


def test_canceled_statement_was_slow() -> None:
    assert isinstance(meant(psycopg.errors.QueryCanceled("statement timeout")), SlowHandlerError)


@pytest.mark.parametrize("error", [MemoryError(), ReportedError("stop")])
def test_what_ends_a_process_comes_out_as_it_is(error: Exception) -> None:
    assert meant(error) is error
