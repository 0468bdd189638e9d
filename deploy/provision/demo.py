"""The stock that the demo shop begins with."""

import tomllib
from collections.abc import Mapping
from importlib import resources

import sqlalchemy as sa

from common.events.names import composed


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
