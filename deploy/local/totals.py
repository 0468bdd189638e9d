"""How many orders were decided in all, from the table that the database keeps: no kill makes it fall.

What processes count begins at zero with each of them. Where the database does not answer, the totals are unknown.
"""

from dataclasses import dataclass

import psycopg

from deploy.local.home import Home
from deploy.local.servers import addresses_of
from onceloop.errors import ConfigError
from onceloop.postgres.bounded import BoundedConnection

ROLE = "reader"
ANSWER_SECONDS = 2.0
_TOTALS = """
    SELECT coalesce(sum(orders) FILTER (WHERE verdict = 1), 0)::bigint,
        coalesce(sum(orders) FILTER (WHERE verdict = 0), 0)::bigint
    FROM inventory.decision_total
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """Orders that have a decision. None: unknown, since the database does not answer."""

    reserved: int | None = None
    failed: int | None = None


def totals_of(home: Home) -> Totals:
    """Return those of the stack in `home`; unknown if it has none, or if its database is away."""
    try:
        dsn = addresses_of(home).postgres_dsn(ROLE)
    except (ConfigError, OSError):  # before the first start there are no passwords
        return Totals()
    return read_totals(dsn)


def read_totals(dsn: str) -> Totals:
    """Return what a database says within some two seconds; a few dozen rows, however many orders there are."""
    try:
        with BoundedConnection.connect(dsn, connect_timeout=int(ANSWER_SECONDS)) as connection:
            connection.answer_seconds = ANSWER_SECONDS
            row = connection.execute(_TOTALS).fetchone()
    except psycopg.Error:
        return Totals()
    return Totals(*row) if row is not None else Totals()
