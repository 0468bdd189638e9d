"""`pipeline schemas`: what a change of an event means for everybody who reads or wrote it, before anybody does."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from common.config import RegistrySettings, load
from common.events import asyncapi as description
from common.events.schema_versions import PACKAGED, SchemaVersion, events, versions
from common.topics import EVENT_TOPICS
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.cli.stacks import running
from deploy.local.home import NotRunningError
from deploy.schemas.compatibility import breaks
from deploy.schemas.offline import Checked, Finding, check_all
from deploy.schemas.publish import freeze as publish
from deploy.schemas.registered import Registered, compare
from deploy.schemas.schema_fields import changes, fields
from deploy.schemas.subjects import COMPATIBILITY, register_all
from onceloop.errors import Busy, ConfigError, ExitCode, FatalError, UsageError

EventArgument = Annotated[str, typer.Argument(metavar="EVENT", help="An event's name, for example OrderCreated.")]
FolderOption = Annotated[
    Path,
    typer.Option(
        "--schemas",
        metavar="DIR",
        help="Another folder of schemas, for example of a colleague's branch.",
        show_default="those of this checkout",
    ),
]
PACKAGED_FOLDER = Path(str(PACKAGED))
app = typer.Typer(
    help="Versions of the events' schemas: what changed, who can still read whom, what is registered.",
    epilog="The way of a change through running services: docs/schema-evolution.md",
    no_args_is_help=True,
    **TYPER_OPTIONS,
)


@app.command("list", **example("which versions are registered", "pipeline schemas list"))
def list_(home: HomeOption = DEFAULT, *, as_json: JsonOption = False) -> None:
    """List events, subjects and versions.

    With a registry at hand (PIPELINE_REGISTRY_URL, or the stack in --home) also the id of each version there.
    """
    settings = _registry_at_hand(home)
    ids = {each.topic.value: each.held.ids for each in _compared(settings)} if settings else {}
    rows = [
        {
            "event": topic.value,
            "subject": topic.subject,
            "fields": sum("." not in field.path and "[" not in field.path for field in fields(found[-1].text)),
            "versions": {version.number: ids.get(topic.value, {}).get(version.number) for version in found},
        }
        for topic in EVENT_TOPICS
        if (found := versions(str(topic.value)))
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_rows(rows, registry=settings.registry_address if settings else "")


@app.command(
    **example("before a commit, then before a release", "pipeline schemas check --offline", "pipeline schemas check")
)
def check(
    home: HomeOption = DEFAULT,
    schemas: FolderOption = PACKAGED_FOLDER,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no registry, even if one is at hand.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say whether any version breaks another.

    Every version of every schema is compared with all the others, in both directions, and decodes their golden
    bytes. FULL_TRANSITIVE: each version reads what every other one wrote. With a registry at hand
    (PIPELINE_REGISTRY_URL, or the stack in --home) also with all that is registered there. Exit code 1 names each
    broken rule; nothing changes.
    """
    checked = check_all(schemas)
    settings = None if offline else _registry_at_hand(home)
    registered = _compared(settings, schemas) if settings else ()
    findings = [finding for event in checked for finding in event.findings]
    findings += [finding for subject in registered for finding in subject.findings]
    if as_json:
        typer.echo(json.dumps([_as_fields(finding) for finding in findings], indent=2))
    else:
        _print_checked(checked, registered, registry=settings.registry_address if settings else "")
        for finding in findings:
            typer.echo(f"error: {finding}", err=True)
    if findings:
        raise typer.Exit(ExitCode.VIOLATION)


@app.command(
    **example(
        "the last change, then the way from the first",
        "pipeline schemas diff OrderCreated",
        "pipeline schemas diff OrderCreated 1 2",
        "pipeline schemas diff OrderCreated --json | jq .broken",
    )
)
def diff(
    event: EventArgument,
    older: Annotated[int | None, typer.Argument(metavar="[OLD]", help="Default: the one before NEW.")] = None,
    newer: Annotated[int | None, typer.Argument(metavar="[NEW]", help="Default: the newest.")] = None,
    schemas: FolderOption = PACKAGED_FOLDER,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show how two versions of an event differ.

    Field by field, and whether each reads what the other wrote.
    """
    found = _versions(event, schemas)
    new = _numbered(found, newer if newer is not None else found[-1].number)
    first = older is None and new.number == 1
    old = new if first else _numbered(found, older if older is not None else new.number - 1)
    differing, broken = changes(old.text, new.text), breaks(old.text, new.text)
    if as_json:
        numbers = {"event": event, "old": None if first else old.number, "new": new.number}
        typer.echo(json.dumps({**numbers, "changes": differing, "broken": list(map(str, broken))}, indent=2))
        return
    if first:
        typer.echo(f"{event} has no version before v1")
        return
    typer.echo(f"{event} v{old.number} -> v{new.number}")
    for line in differing or ("no field differs",):
        typer.echo(f"  {line}")
    typer.echo("each reads what the other wrote" if not broken else f"{COMPATIBILITY} is broken:")
    for each in broken:
        typer.echo(f"  {each}")


@app.command(**example("before the first process of a release starts", "pipeline schemas register"))
def register(home: HomeOption = DEFAULT, *, as_json: JsonOption = False) -> None:
    """Register what the registry does not have yet.

    Oldest version first; the registry refuses what breaks FULL_TRANSITIVE. `pipeline provision` does this too. A
    process that would write an unregistered schema refuses to start.
    """
    settings = _registry_at_hand(home)
    if settings is None:
        raise ConfigError("no registry at hand", cure="set PIPELINE_REGISTRY_URL, or name a running stack with --home")
    try:
        subjects = register_all(settings)
    except Busy as error:
        raise _away(settings, error) from error
    if as_json:
        typer.echo(json.dumps({"ids": dict(subjects.ids), "new": subjects.new}, indent=2))
        return
    for subject, schema_id in subjects.ids.items():
        typer.echo(f"{subject:<28} id {schema_id:<5} {'new' if subject in subjects.new else 'stands'}")


@app.command(
    **example(
        "publish version 2, with a value for its new field",
        "cp common/events/schemas/OrderCreated/v1.avsc common/events/schemas/OrderCreated/v2.avsc",
        "(add the field to v2.avsc)",
        "pipeline schemas freeze OrderCreated --field currency=USD",
    )
)
def freeze(
    event: EventArgument,
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A field of the golden record: JSON, or plain text.")
    ] = None,
    schemas: FolderOption = PACKAGED_FOLDER,
) -> None:
    """Publish an event's newest version.

    Writes the golden bytes that every later code must read. The record is that of the version before, with defaults
    for new fields; --field gives one another value. From then on a change of this version is an error that `check`
    names, and the way is one version more.
    """
    done = publish(event, dict(_parse_field(each) for each in field or ()), schemas)
    typer.echo(f"{done.file}: {'written; commit it beside the schema' if done.written else 'stands'}")


@app.command(**example("after a change of topics or schemas", "pipeline schemas asyncapi"))
def asyncapi(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to; - for the standard output.")] = Path(
        "docs/asyncapi.yaml"
    ),
) -> None:
    """Write the AsyncAPI description of all topics.

    From common/topics.py and the newest schemas; a test compares the file with them.
    """
    text = description.as_yaml()
    if str(output) == "-":
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    typer.echo(f"{output}: {len(description.document()['channels'])} channels")


def _registry_at_hand(home: Path) -> RegistrySettings | None:
    """Return where the registry is: of the environment, else of a stack that runs in `home`; None without either."""
    try:
        return load(RegistrySettings)
    except ConfigError:
        try:
            return RegistrySettings(registry_url=running(home).registry_url)
        except (ConfigError, NotRunningError):
            return None


def _compared(settings: RegistrySettings, schemas: Path = PACKAGED_FOLDER) -> tuple[Registered, ...]:
    try:
        return compare(settings, schemas)
    except Busy as error:
        raise _away(settings, error) from error


def _away(settings: RegistrySettings, error: Busy) -> FatalError:
    return FatalError(
        f"the schema registry does not answer at {settings.registry_address}: {error}",
        cure="start it, correct PIPELINE_REGISTRY_URL, or check with --offline",
    )


def _versions(event: str, schemas: Path) -> tuple[SchemaVersion, ...]:
    found = versions(event, schemas)
    if not found:
        raise UsageError(f"no schema of {event!r} in {schemas}", cure=f"one of: {', '.join(events(schemas))}")
    return found


def _numbered(found: tuple[SchemaVersion, ...], number: int) -> SchemaVersion:
    for version in found:
        if version.number == number:
            return version
    raise UsageError(
        f"{found[0].event} has no version {number}", cure=f"it has {', '.join(str(each.number) for each in found)}"
    )


def _parse_field(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals:
        raise UsageError(f"--field {given}: no value", cure="--field NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _as_fields(finding: Finding) -> dict[str, str]:
    return {"event": finding.event, "rule": str(finding.rule), "what": finding.what}


def _print_rows(rows: list[dict[str, Any]], *, registry: str) -> None:
    typer.echo(f"{'event':<18} {'subject':<28} {'fields':>6}  versions")
    for row in rows:
        versions = " ".join(
            f"v{number}" + (f" (id {schema_id or 'none'})" if registry else "")
            for number, schema_id in row["versions"].items()
        )
        typer.echo(f"{row['event']:<18} {row['subject']:<28} {row['fields']:>6}  {versions}")
    typer.echo(f"ids of {registry}" if registry else "no registry at hand: ids are not shown")


def _print_checked(checked: tuple[Checked, ...], registered: tuple[Registered, ...], *, registry: str) -> None:
    for each in checked:
        found = " ".join(f"v{version.number}" for version in each.versions)
        verdict = (
            f"{len(each.findings)} broken" if each.findings else f"compatible, golden records decode: {each.goldens}"
        )
        typer.echo(f"{each.event:<18} {found:<12} {verdict}")
    for subject in registered:
        known = " ".join(f"v{number}={schema_id or 'not yet'}" for number, schema_id in subject.held.ids.items())
        others = f", {subject.others} of other releases" if subject.others else ""
        typer.echo(f"{subject.topic.subject:<31} registered: {known}{others}")
    typer.echo(f"compared with {registry}" if registry else "compared without a registry")
