"""What a database error asks for, by SQLSTATE: the table of the design, row by row."""

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField

from inventory_service.io.decision_store import GUARDS
from onceloop.postgres.retry import Failure, classify


def error(sqlstate: str, *, constraint: str | None = None) -> psycopg.Error:
    """Return the exception that psycopg raises for this state."""
    info = {DiagnosticField.SQLSTATE: sqlstate.encode()}
    if constraint is not None:
        info[DiagnosticField.CONSTRAINT_NAME] = constraint.encode()
    found = errors.lookup(sqlstate)("said by the server", info=info)  # type: ignore[arg-type]
    assert found.sqlstate == sqlstate
    assert found.diag.constraint_name == constraint
    return found


@pytest.mark.parametrize(
    ("sqlstate", "constraint"),
    [("23505", "decision_pkey"), ("23514", "stock_available_ge_0"), ("22012", None)],
    ids=["order decided meanwhile", "stock taken meanwhile", "stock row gone meanwhile"],
)
def test_guard_that_says_another_worker_was_faster_is_tried_again_at_once__by_those_alone_who_name_it(
    sqlstate: str, constraint: str | None
) -> None:
    failed = error(sqlstate, constraint=constraint)
    assert classify(failed, GUARDS) is Failure.GUARD
    assert classify(failed) is Failure.BUG
    assert classify(failed, frozenset({"account_pkey"})) is Failure.BUG


@pytest.mark.parametrize(
    ("sqlstate", "failure"),
    [
        ("40P01", Failure.CONTENTION),  # deadlock_detected
        ("40001", Failure.CONTENTION),  # serialization_failure
        ("55P03", Failure.CONTENTION),  # lock_not_available: lock_timeout
        ("57014", Failure.CONTENTION),  # query_canceled: statement_timeout
        ("08000", Failure.CONNECTION),  # connection_exception
        ("08003", Failure.CONNECTION),  # connection_does_not_exist
        ("08006", Failure.CONNECTION),  # connection_failure
        ("57P01", Failure.CONNECTION),  # admin_shutdown
        ("57P02", Failure.CONNECTION),  # crash_shutdown
        ("57P03", Failure.CONNECTION),  # cannot_connect_now
        ("57P05", Failure.CONNECTION),  # idle_session_timeout
        ("25006", Failure.CONNECTION),  # read_only_sql_transaction: a former primary
        ("25P03", Failure.CONNECTION),  # idle_in_transaction_session_timeout
        ("25P04", Failure.CONNECTION),  # transaction_timeout
        ("53000", Failure.EXHAUSTED),
        ("53100", Failure.EXHAUSTED),  # disk_full
        ("53200", Failure.EXHAUSTED),  # out_of_memory
        ("53300", Failure.EXHAUSTED),  # too_many_connections
        ("22001", Failure.DATA),  # string_data_right_truncation
        ("22003", Failure.DATA),  # numeric_value_out_of_range
        ("22021", Failure.DATA),  # character_not_in_repertoire
        ("22P02", Failure.DATA),  # invalid_text_representation
        ("22012", Failure.BUG),  # division_by_zero
        ("2200H", Failure.BUG),  # sequence_generator_limit_exceeded
        ("23502", Failure.BUG),  # not_null_violation
        ("23503", Failure.BUG),  # foreign_key_violation
        ("23505", Failure.BUG),  # unique_violation
        ("23514", Failure.BUG),  # check_violation
        ("23P01", Failure.BUG),  # exclusion_violation
        ("42501", Failure.BUG),  # insufficient_privilege
        ("42P01", Failure.BUG),  # undefined_table
        ("42703", Failure.BUG),  # undefined_column
        ("42601", Failure.BUG),  # syntax_error
        ("25P02", Failure.BUG),  # in_failed_sql_transaction
        ("26000", Failure.BUG),  # invalid_sql_statement_name
        ("0A000", Failure.BUG),  # feature_not_supported
        ("XX000", Failure.BUG),  # internal_error
    ],
)
def test_state_asks_for_what_the_table_says(sqlstate: str, failure: Failure) -> None:
    assert classify(error(sqlstate)) is failure


@pytest.mark.parametrize(
    "constraint", ["stock_available_le_on_hand", "decision_lines_match", "decision_reason_iff_failed"]
)
def test_unnamed_constraint_is_never_a_reason_to_give_a_record_up(constraint: str) -> None:
    assert classify(error("23514", constraint=constraint), GUARDS) is Failure.BUG


@pytest.mark.parametrize(
    "lost",
    [
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.OperationalError("the connection is closed"),
        errors.ConnectionTimeout("connection timeout expired"),
    ],
)
def test_libpq_speaking_without_a_state_means_the_connection(lost: psycopg.Error) -> None:
    assert classify(lost) is Failure.CONNECTION


@pytest.mark.parametrize("misuse", [psycopg.ProgrammingError("no results"), psycopg.InterfaceError("cursor is closed")])
def test_misuse_of_the_client_is_a_bug(misuse: psycopg.Error) -> None:
    assert classify(misuse) is Failure.BUG


def test_value_that_the_client_cannot_write_down_is_rejected_as_by_the_server() -> None:
    """It was taken for a bug, and ended the process at each start."""
    assert classify(psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")) is Failure.DATA
