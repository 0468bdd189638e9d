"""`pipeline metrics`: orders per minute, as a table or drawn as they come."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from common.events.codec import Codec
from common.events.volume import MinuteVolume, minute_name
from common.kafka.schema_registry import open_codec
from common.topics import MINUTE_VOLUMES
from deploy.cli.access import kafka_settings
from deploy.cli.minutes import Minutes, chart, empty_text, line, table
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from onceloop.errors import Undecodable
from onceloop.kafka.follower import Follower, following
from onceloop.kafka.options import admin_options

MINUTES = 15
MINUTES_MAX = 1440
OFFSETS_PER_MINUTE = 4
"""A total and its commit marker, and as many again for a revision."""
OFFSETS_SPARE = 500
DRAWS_PER_SECOND = 4

app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    **example("watch it live, then for a script", "pipeline metrics --follow", "pipeline metrics --json | jq '.[-1]'")
)
def metrics(
    home: HomeOption = DEFAULT,
    *,
    minutes: Annotated[
        int, typer.Option("--minutes", min=1, max=MINUTES_MAX, help="How many minutes, the newest last.")
    ] = MINUTES,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on: draw each minute as it is counted. Ctrl-C ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how many orders were placed in each minute, and what became of them, from the topic `metrics`.

    A minute comes some five seconds after its end. An order that comes later still raises the minute's revision; the
    highest revision counts. Times are UTC. With --follow --json each total is one line.
    """
    settings = kafka_settings(home)
    codec = open_codec(settings, (MINUTE_VOLUMES,))
    seen = Minutes(minutes)
    with following(admin_options(settings.kafka), MINUTE_VOLUMES.within(settings.namespace)) as reader:
        reader.begin(back=OFFSETS_PER_MINUTE * minutes + OFFSETS_SPARE)
        seen.add(_totals(codec, reader.standing()))
        if follow:
            _follow(reader, codec, seen, as_json=as_json)
        elif as_json:
            typer.echo(json.dumps([_fields(total) for total in seen.last()], indent=2))
        else:
            _print(seen)


def _print(seen: Minutes) -> None:
    console = Console(highlight=False)
    totals = seen.last()
    console.print(table(totals, width=console.width) if totals else empty_text())


def _follow(reader: Follower, codec: Codec, seen: Minutes, *, as_json: bool) -> None:
    console = Console(highlight=False)
    try:
        if as_json or not console.is_terminal:
            _follow_in_lines(reader, codec, seen, as_json=as_json)
        else:
            _draw(reader, codec, seen, console)
    except KeyboardInterrupt:  # the way to end it
        return


def _follow_in_lines(reader: Follower, codec: Codec, seen: Minutes, *, as_json: bool) -> None:
    news: Iterable[MinuteVolume] = seen.last()
    while True:
        for total in news:
            typer.echo(json.dumps(_fields(total)) if as_json else line(total))
        news = seen.add(_totals(codec, reader.more()))


def _draw(reader: Follower, codec: Codec, seen: Minutes, console: Console) -> None:
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            now_ms = time.time_ns() // 1_000_000
            live.update(chart(seen.last(), now_ms=now_ms, width=console.width), refresh=True)
            wanted = time.monotonic() + 1 / DRAWS_PER_SECOND
            while time.monotonic() < wanted:
                seen.add(_totals(codec, reader.more()))


def _totals(codec: Codec, values: Iterable[bytes]) -> list[MinuteVolume]:
    """Return the totals; what is none (another program wrote it) is passed over."""
    totals = []
    for value in values:
        try:
            totals.append(codec.decode(MinuteVolume, value))
        except Undecodable:
            continue
    return totals


def _fields(total: MinuteVolume) -> dict[str, object]:
    fields = asdict(total)
    del fields["minute_ms"]
    return {"minute": minute_name(total.minute_ms), **fields}
