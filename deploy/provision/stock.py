"""Stock on hand: what a demo starts with, and how a person looks at it and restocks.

A restock is one statement on one row. It waits for the reservation that holds the row and sees its result, so
`available` always follows from what is reserved; the table's CHECKs refuse the rest.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import sqlalchemy as sa

from common.errors import ExitCode, PipelineError
from common.events.names import composed, name_complaint
from common.events.orders import SKU_LENGTH_MAX, text_complaint

UNITS_MAX = 1_000_000_000
"""Leaves room below the column's limit for one addition of the same size."""


class StockRefusedError(PipelineError):
    """The change would break the books, or is no change at all."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Balance:
    """One SKU, in units: what is on hand is either reserved or available."""

    sku: str
    on_hand: int
    reserved: int
    available: int


def demo_stock() -> dict[str, int]:
    """Return SKU -> units of the demo shop."""
    return dict(tomllib.loads((resources.files(__package__) / "demo_stock.toml").read_text(encoding="utf-8")))


def insert_missing(connection: sa.Connection, quantities: Mapping[str, int]) -> tuple[str, ...]:
    """Insert the SKUs that are not there yet, none of them reserved, and return them. The others keep their balance."""
    inserted = connection.execute(
        sa.text(
            """
            INSERT INTO inventory.stock (sku, on_hand, available)
            SELECT sku, quantity, quantity
            FROM unnest(CAST(:skus AS text[]), CAST(:quantities AS integer[])) AS demo (sku, quantity)
            ORDER BY sku
            ON CONFLICT (sku) DO NOTHING
            RETURNING sku
            """
        ),
        {"skus": [composed(sku) for sku in quantities], "quantities": list(quantities.values())},
    )
    return tuple(inserted.scalars())


def list_balances(connection: sa.Connection) -> list[Balance]:
    """Return every SKU, by name."""
    rows = connection.execute(
        sa.text("SELECT sku, on_hand, on_hand - available AS reserved, available FROM inventory.stock ORDER BY sku")
    )
    return [_balance(row) for row in rows]


def set_on_hand(connection: sa.Connection, sku: str, units: int) -> Balance:
    """Have so many units on hand, reserved ones included; a SKU that is not there yet begins with them.

    Raises StockRefusedError if more is reserved than would be on hand.
    """
    _refuse_impossible(units, least=0)
    return _changed(
        connection,
        """
        INSERT INTO inventory.stock AS s (sku, on_hand, available) VALUES (:sku, :units, :units)
        ON CONFLICT (sku) DO UPDATE SET on_hand = :units, available = :units - (s.on_hand - s.available)
        RETURNING sku, on_hand, on_hand - available AS reserved, available
        """,
        _shelf(connection, sku),
        units,
    )


def add(connection: sa.Connection, sku: str, units: int) -> Balance:
    """Put units on hand, or take available ones away with a negative number.

    Raises StockRefusedError if the SKU does not exist or fewer are available.
    """
    _refuse_impossible(units, least=-UNITS_MAX)
    return _changed(
        connection,
        """
        UPDATE inventory.stock SET on_hand = on_hand + :units, available = available + :units WHERE sku = :sku
        RETURNING sku, on_hand, on_hand - available AS reserved, available
        """,
        _shelf(connection, sku),
        units,
    )


def _changed(connection: sa.Connection, statement: str, sku: str, units: int) -> Balance:
    """Run one change in a transaction of its own and return the row it leaves."""
    try:
        with connection.begin():
            row = connection.execute(sa.text(statement), {"sku": sku, "units": units}).one_or_none()
    except sa.exc.IntegrityError as error:
        raise StockRefusedError(
            f"{sku}: more is reserved than that would leave on hand", cure="look at `pipeline stock list`"
        ) from error
    except sa.exc.DataError as error:
        raise StockRefusedError(f"{sku}: no shelf holds that many", cure="choose a smaller number") from error
    except sa.exc.OperationalError as error:
        raise PipelineError(f"{sku}: the database did not let us change it: {error.orig}", cure="try again") from error
    if row is None:
        raise StockRefusedError(f"there is no SKU {sku}", cure=f"create it: pipeline stock set {sku} {max(units, 0)}")
    return _balance(row)


def _shelf(connection: sa.Connection, sku: str) -> str:
    """Return the SKU in the spelling that is kept, the one that orders name.

    A row that stands may have a name that no new one gets, such as `tea ` with a space: its units must stay in reach.
    Raises StockRefusedError for such a name without a row.
    """
    kept = composed(sku)
    if (found := name_complaint(sku, length_max=SKU_LENGTH_MAX)) and not _stands(connection, kept):
        raise StockRefusedError(f"the SKU {found}", cure="name one like `tea`")
    return kept


def _stands(connection: sa.Connection, sku: str) -> bool:
    if text_complaint(sku, length_max=SKU_LENGTH_MAX):
        return False  # nothing that a database could be asked for
    with connection.begin():
        found = connection.execute(sa.text("SELECT 1 FROM inventory.stock WHERE sku = :sku"), {"sku": sku})
        return found.first() is not None


def _refuse_impossible(units: int, *, least: int) -> None:
    if not least <= units <= UNITS_MAX:
        raise StockRefusedError(f"{units} is not from {least} to {UNITS_MAX}", cure="choose another number")


def _balance(row: sa.Row[tuple[str, int, int, int]]) -> Balance:
    return Balance(row.sku, row.on_hand, row.reserved, row.available)
