"""`pipeline stock`: look at the shelves, and restock them, beside the running workers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from common.events.names import composed, name_complaint
from common.events.orders import SKU_LENGTH_MAX
from deploy.cli.access import connected
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.provision import stock
from deploy.provision.stock import UNITS_MAX, Balance

ROLE = "stock_admin"
SkuArgument = Annotated[str, typer.Argument(metavar="SKU", help="The SKU's name, for example tea.")]
app = typer.Typer(help="List, set or add stock, in units.", no_args_is_help=True, **TYPER_OPTIONS)


@app.command("list", **example("the SKUs that ran out", "pipeline stock list --json | grep -B3 '\"available\": 0'"))
def list_(home: HomeOption = DEFAULT, *, as_json: JsonOption = False) -> None:
    """Show every SKU: on hand, of that reserved, and what is left."""
    with connected(home, ROLE) as connection:
        _show(stock.list_balances(connection), as_json=as_json)


@app.command(
    "set",
    context_settings={"ignore_unknown_options": True},  # a negative number looks like an option
    **example("sell the last three", "pipeline stock set lantern 3"),
)
def set_(
    sku: SkuArgument,
    units: Annotated[
        int, typer.Argument(metavar="N", min=0, max=UNITS_MAX, help="Units on hand, the reserved ones included.")
    ],
    home: HomeOption = DEFAULT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Have N units on hand; a new SKU begins with them. Refused if more than N are reserved."""
    with connected(home, ROLE) as connection:
        _show([stock.set_on_hand(connection, sku, units)], as_json=as_json)


@app.command(
    "add",
    context_settings={"ignore_unknown_options": True},  # a negative number looks like an option
    **example("a delivery of 100, and 5 of them broken", "pipeline stock add mug 100", "pipeline stock add mug -5"),
)
def add(
    sku: SkuArgument,
    units: Annotated[
        int,
        typer.Argument(metavar="N", min=-UNITS_MAX, max=UNITS_MAX, help="Units that come in; negative: that go out."),
    ],
    home: HomeOption = DEFAULT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Put N more units on hand. Refused if it would take away what is reserved, or if the SKU is unknown."""
    with connected(home, ROLE) as connection:
        _show([stock.add(connection, sku, units)], as_json=as_json)


def _show(balances: Sequence[Balance], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(balance) for balance in balances], indent=2))
        return
    names = [_legible(balance.sku) for balance in balances]
    width = max(map(len, names), default=0)
    typer.echo(f"{'SKU':<{width}}  {'on hand':>10}  {'reserved':>10}  {'available':>10}")
    for name, balance in zip(names, balances, strict=True):
        typer.echo(f"{name:<{width}}  {balance.on_hand:>10}  {balance.reserved:>10}  {balance.available:>10}")


def _legible(sku: str) -> str:
    """Return the name, a wrong one with its odd characters as numbers: it looks like another, or like none."""
    if composed(sku) == sku and not name_complaint(sku, length_max=SKU_LENGTH_MAX):
        return sku
    return f"'{sku.encode('unicode_escape').decode()}'"
