"""Stock on hand: how a person looks at it and restocks.

A restock is one statement on one row. It waits for the reservation that holds the row and sees its result, so
`available` always follows from what is reserved; the table's CHECKs refuse the rest. Written for psycopg alone: a
command that asks one question should not import SQLAlchemy first, which takes longer than the answer.
"""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row

from common.events.names import composed, name_complaint
from common.events.orders import SKU_LENGTH_MAX, text_complaint
from onceloop.errors import ExitCode, ReportedError

UNITS_MAX = 1_000_000_000
"""Leaves room below the column's limit for one addition of the same size."""


Connection = psycopg.Connection[Any]


class StockRefusedError(ReportedError):
    """The change would break the books, or is no change at all."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Balance:
    """One SKU, in units: what is on hand is either reserved or available."""

    sku: str
    on_hand: int
    reserved: int
    available: int


def list_balances(connection: Connection) -> list[Balance]:
    """Return every SKU, by name."""
    with connection.cursor(row_factory=class_row(Balance)) as cursor:
        cursor.execute(
            "SELECT sku, on_hand, on_hand - available AS reserved, available FROM inventory.stock ORDER BY sku"
        )
        return cursor.fetchall()


def set_on_hand(connection: Connection, sku: str, units: int) -> Balance:
    """Have so many units on hand, reserved ones included; a SKU that is not there yet begins with them.

    Raises StockRefusedError if more is reserved than would be on hand.
    """
    _refuse_impossible(units, least=0)
    return _changed(
        connection,
        """
        INSERT INTO inventory.stock AS s (sku, on_hand, available) VALUES (%(sku)s, %(units)s, %(units)s)
        ON CONFLICT (sku) DO UPDATE SET on_hand = %(units)s, available = %(units)s - (s.on_hand - s.available)
        RETURNING sku, on_hand, on_hand - available AS reserved, available
        """,
        _shelf(connection, sku),
        units,
    )


def add(connection: Connection, sku: str, units: int) -> Balance:
    """Put units on hand, or take available ones away with a negative number.

    Raises StockRefusedError if the SKU does not exist or fewer are available.
    """
    _refuse_impossible(units, least=-UNITS_MAX)
    return _changed(
        connection,
        """
        UPDATE inventory.stock SET on_hand = on_hand + %(units)s, available = available + %(units)s
        WHERE sku = %(sku)s
        RETURNING sku, on_hand, on_hand - available AS reserved, available
        """,
        _shelf(connection, sku),
        units,
    )


def _changed(connection: Connection, statement: LiteralString, sku: str, units: int) -> Balance:
    """Run one change in a transaction of its own and return the row it leaves."""
    try:
        with connection.transaction(), connection.cursor(row_factory=class_row(Balance)) as cursor:
            balance = cursor.execute(statement, {"sku": sku, "units": units}).fetchone()
    except psycopg.IntegrityError as error:
        raise StockRefusedError(
            f"{sku}: more is reserved than that would leave on hand", cure="look at `pipeline stock list`"
        ) from error
    except psycopg.DataError as error:
        raise StockRefusedError(f"{sku}: no shelf holds that many", cure="choose a smaller number") from error
    except psycopg.OperationalError as error:
        raise ReportedError(f"{sku}: the database did not let us change it: {error}", cure="try again") from error
    if balance is None:
        raise StockRefusedError(f"there is no SKU {sku}", cure=f"create it: pipeline stock set {sku} {max(units, 0)}")
    return balance


def _shelf(connection: Connection, sku: str) -> str:
    """Return the SKU in the spelling that is kept, the one that orders name.

    A row that stands may have a name that no new one gets, such as `tea ` with a space: its units must stay in reach.
    Raises StockRefusedError for such a name without a row.
    """
    kept = composed(sku)
    if (found := name_complaint(sku, length_max=SKU_LENGTH_MAX)) and not _stands(connection, kept):
        raise StockRefusedError(f"the SKU {found}", cure="name one like `tea`")
    return kept


def _stands(connection: Connection, sku: str) -> bool:
    if text_complaint(sku, length_max=SKU_LENGTH_MAX):
        return False  # nothing that a database could be asked for
    return connection.execute("SELECT 1 FROM inventory.stock WHERE sku = %s", (sku,)).fetchone() is not None


def _refuse_impossible(units: int, *, least: int) -> None:
    if not least <= units <= UNITS_MAX:
        raise StockRefusedError(f"{units} is not from {least} to {UNITS_MAX}", cure="choose another number")
