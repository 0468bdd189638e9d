"""`pipeline topics`: the topics of the table as they stand on the cluster, and partitions for them to grow by."""

import json
from pathlib import Path
from typing import Annotated

import typer

from common.config import KafkaSettings
from common.kafka.admin import Admin
from common.topics import ALL_TOPICS
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.cli.stacks import running_or_named, services_of
from deploy.provision import growth

app = typer.Typer(help="List topics, or give them more partitions.", no_args_is_help=True, **TYPER_OPTIONS)


@app.command("list", **example("topics that have grown", "pipeline topics list"))
def list_(home: HomeOption = DEFAULT, *, as_json: JsonOption = False) -> None:
    """Show every topic: partitions now and when made, who reads it."""
    added = services_of(home)
    topics = (*ALL_TOPICS, *(topic for each in added for topic in each.topics))
    counts = _admin(home).partitions(topics)
    readers = {topic.name: [group.name for group in topic.readers] for topic in topics}
    for topic in (topic for each in added for topic in each.inputs):
        readers[topic.name] += [group.name for group in topic.readers]
    rows = [
        {
            "topic": topic.name,
            "partitions": counts.get(topic, 0),
            "made_with": topic.partitions,
            "readers": readers[topic.name],
        }
        for topic in topics
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo(f"{'topic':<42} {'partitions':>10} {'made with':>10}  read by")
    for topic in topics:
        read_by = ", ".join(readers[topic.name]) or "-"
        typer.echo(f"{topic.name:<42} {counts.get(topic, 0):>10} {topic.partitions:>10}  {read_by}")


@app.command("grow", **example("from 8 to 12, under load", "pipeline topics grow orders.created --partitions 12"))
def grow(
    name: Annotated[str, typer.Argument(metavar="TOPIC", help="For example orders.created.")],
    partitions: Annotated[int, typer.Option("--partitions", metavar="N", help="How many it shall have in all.")],
    home: HomeOption = DEFAULT,
) -> None:
    """Give a topic, and those keyed like it, N partitions in all.

    Nothing is lost and nothing stops; the command waits until all are read. Kafka redistributes keys, so a user's
    orders may go to another partition: their order holds among those placed before, and among those placed after the
    change, not across. The times are printed.
    """
    read = [topic for each in services_of(home) for topic in each.inputs]
    ranges = growth.grow(_admin(home), growth.named(name), partitions, typer.echo, read)
    typer.echo(
        f"a user's orders keep their order among those placed before {ranges.until:%H:%M:%S} UTC, and among those"
        f" placed from {ranges.since:%H:%M:%S} UTC on"
    )


def _admin(home: Path) -> Admin:
    """Return a client for the stack in `home`, or for the cluster that the environment names."""
    found = running_or_named(home, KafkaSettings, "cluster")
    if isinstance(found, KafkaSettings):
        return Admin(found)
    return Admin(KafkaSettings(kafka_bootstrap=found.kafka_bootstrap, registry_url=found.registry_url))
