"""`pipeline order`: one order's story across HTTP, topics and tables."""

import json
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

import typer
from rich.console import Console

from audit.story import Story, parse_order_id, story_of
from audit.terms import Coordinate
from audit.timeline import Moment, timeline
from deploy.cli.checking import story_settings
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example

app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    **example(
        "an order, then how often its decision was repeated",
        "pipeline order 0198c5d2-7c5e-7f10-8a30-5b1f6f0d9c11",
        "pipeline order 0198c5d2-7c5e-... --json | jq .decision.replays",
    )
)
def order(
    order_id: Annotated[str, typer.Argument(metavar="ID", help="The order_id that POST /orders answered.")],
    home: HomeOption = DEFAULT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to one order, and when: request, records, decision, event, notification, status.

    Coordinates are topic, partition@offset. Times are milliseconds since the order was placed, by the clock of the
    process that recorded them. The exit code is 2 if there is no such order.
    """
    story = story_of(story_settings(home), parse_order_id(order_id))
    if as_json:
        typer.echo(json.dumps(_as_fields(story), indent=2))
    else:
        _print(story)


def _print(story: Story) -> None:
    console = Console(highlight=False)
    moments = timeline(story)
    began = moments[0].time_ms if moments else 0
    console.print(f"order {story.order_id}", style="bold")
    if moments:
        at = datetime.fromtimestamp(began / 1000, tz=UTC)
        console.print(f"{at:%Y-%m-%d %H:%M:%S}.{began % 1000:03d} UTC")
    for moment in moments:
        console.print(_line(moment, began), soft_wrap=True, markup=False)
    if story.no_outcome:
        console.print(f"outcome none: {story.no_outcome}", soft_wrap=True, markup=False)
    console.print(f"status  {_status(story)}", soft_wrap=True, markup=False)
    console.print(f"http    {_answer(story)}", soft_wrap=True, markup=False)


def _line(moment: Moment, began: int) -> str:
    return f"{moment.time_ms - began:>+8,} ms  {moment.what:<10} {moment.detail}"


def _status(story: Story) -> str:
    row = story.rows.status
    if row is None:
        return "none: the projection has not read the order"
    why = f" ({row.reason})" if row.reason else ""
    return f"{row.status}{why}, {'notified' if row.notified_at else 'not notified'}"


def _answer(story: Story) -> str:
    return f"{story.http_answer}{', ' + str(story.http.get('status')) if story.http else ''}"


def _as_fields(story: Story) -> dict[str, Any]:
    rows = story.rows
    fields: dict[str, Any] = _plain(
        {
            "order_id": story.order_id,
            "http": story.http,
            "http_answer": story.http_answer,
            "created": [seen._asdict() for seen in story.created],
            "decision": rows.decision and rows.decision._asdict(),
            "no_outcome": story.no_outcome,
            "events": [seen._asdict() for seen in story.events],
            "notifications": [row._asdict() for row in rows.ledger],
            "sent": [seen._asdict() for seen in story.sent],
            "status": rows.status and rows.status._asdict(),
            "keys": [row._asdict() for row in rows.keys],
            "timeline": [moment._asdict() for moment in timeline(story)],
        }
    )
    return fields


def _plain(value: Any) -> Any:
    """Return the value as JSON knows it."""
    match value:
        case Coordinate():
            return value._asdict()
        case datetime():
            return value.isoformat()
        case Enum():
            return value.name.lower()
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    return value
