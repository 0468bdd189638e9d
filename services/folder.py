"""Services of a user's own, each a folder with a `service.toml` and its modules: read, and refused with the way out.

`examples/fraud` has one; docs/howto/add-a-service.md says what stands in it. Its consumer group is called like the
service; what the group cannot read goes to `<input>.<name>.dlq`. With a database (`database = false`: without) it gets
a role `<name>_rw` and a schema `<name>` that belongs to that role.
"""

import importlib.util
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.topics import ALL_TOPICS, DAY_MS, EVENT_TOPICS, GROUPS, SINKS, Group, Topic, dead_letter_topic
from onceloop.errors import ConfigError
from services.row import Service
from services.table import BY_NAME, EXPORTER, ROLES

FILE = "service.toml"
RESERVED = frozenset(
    {
        *BY_NAME,
        EXPORTER.name,
        *(group.name for group in (*GROUPS, *(sink.group for sink in SINKS))),
        *(role.removesuffix("_rw") for role in ROLES),
        *("controller", "kafka", "postgres", "registry", "connect", "prometheus", "provision", "supervisor"),
        *("orders", "analytics", "public"),
    }
)
"""Names of what is there already: services, groups, roles, schemas, servers, logs."""
SET_FOR_IT = frozenset(
    {
        *("PIPELINE_KAFKA_BOOTSTRAP", "PIPELINE_REGISTRY_URL", "PIPELINE_SCHEMA_CACHE_DIR", "PIPELINE_SLOT"),
        *("PIPELINE_POSTGRES_URL", "PIPELINE_POSTGRES_PASSWORD_FILE", "PIPELINE_HEALTH_PORT", "PYTHONPATH"),
    }
)
"""The variables by which a service finds its stack."""
RETENTION_MS = 30 * DAY_MS


class _Row(BaseModel):
    """`service.toml` as it stands."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,28}[a-z])?$")
    run: list[str] = Field(min_length=1)
    inputs: list[str] = Field(min_length=1)
    outputs: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")], Annotated[int, Field(ge=1, le=1000)]
    ] = Field(default_factory=dict)
    slots: int = Field(default=1, ge=1, le=64)
    database: bool = True
    settings: dict[str, str | int | float] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A service from a folder, and the topics that come with it."""

    service: Service
    inputs: tuple[Topic, ...]
    """What its group reads; `readers` is that group alone."""
    outputs: tuple[Topic, ...]

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What must be made for it: its outputs, and where its group puts what it cannot read."""
        letters = (dead_letter_topic(topic, group) for topic in self.inputs for group in topic.readers)
        return (*self.outputs, *letters)

    @property
    def schema(self) -> str | None:
        """The schema of its tables; None for a service without a database."""
        return None if self.service.role is None else self.service.role.removesuffix("_rw")


def load(folders: Iterable[Path]) -> tuple[Added, ...]:
    """Return the services of these folders, in their order.

    Raises ConfigError for a folder that holds none, and for one that does not go with the pipeline or another folder.
    """
    rows = [(folder.absolute(), _read(folder)) for folder in folders]
    outputs = {row.name: tuple(_output(row, *each) for each in row.outputs.items()) for _, row in rows}
    _refuse_twice([row.name for _, row in rows], "services are called")
    _refuse_twice([topic.name for topic in chain(*outputs.values())], "services write")
    known = {topic.name: topic for topic in (*EVENT_TOPICS, *chain(*outputs.values()))}
    return tuple(
        Added(
            service=_service(folder, row),
            inputs=tuple(_input(folder, row, name, known) for name in row.inputs),
            outputs=outputs[row.name],
        )
        for folder, row in rows
    )


def _read(folder: Path) -> _Row:
    """Read one row; refuse what is wrong with it alone."""
    file = folder / FILE
    try:
        row = _Row.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"no service in {folder}: it has no {FILE}",
            cure="name a folder that has one, such as examples/fraud: docs/howto/add-a-service.md",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}", cure="correct it: see docs/howto/add-a-service.md") from None
    except ValidationError as error:
        said = "\n".join(f"{file}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigError(said, cure="correct it: see docs/howto/add-a-service.md") from None
    if row.name in RESERVED:
        raise ConfigError(
            f"{file}: the name {row.name!r} is taken by a part of the pipeline", cure="give the service another `name`"
        )
    if taken := sorted(SET_FOR_IT & row.settings.keys()):
        raise ConfigError(
            f"{file}: the pipeline sets {', '.join(taken)} for each process", cure="take it out of [settings]"
        )
    _refuse_missing_module(folder, row)
    return row


def _refuse_missing_module(folder: Path, row: _Row) -> None:
    package = row.run[0].partition(".")[0]
    if not ((folder / f"{package}.py").is_file() or (folder / package).is_dir() or importlib.util.find_spec(package)):
        raise ConfigError(
            f"{folder / FILE}: there is no module {package!r} to run",
            cure=f"write {folder / package}.py, or name another module in `run`",
        )


def _output(row: _Row, name: str, partitions: int) -> Topic:
    if name in {topic.name for topic in (*ALL_TOPICS, *(sink.dead_letters for sink in SINKS))}:
        raise ConfigError(
            f"{row.name} would write {name}, which is a topic of the pipeline's own",
            cure=f"write a topic of its own, such as {row.name}.done",
        )
    return Topic(
        name=name, key="as it comes", value=None, partitions=partitions, retention_ms=RETENTION_MS, writers=(row.name,)
    )


def _input(folder: Path, row: _Row, name: str, known: dict[str, Topic]) -> Topic:
    if name not in known:
        raise ConfigError(
            f"{folder / FILE}: no topic is called {name!r}",
            cure=f"one of: {', '.join(known)}; or add the folder that writes it: --service FOLDER",
        )
    return replace(known[name], readers=(Group(row.name),))


def _service(folder: Path, row: _Row) -> Service:
    return Service(
        name=row.name,
        program=tuple(row.run),
        role=f"{row.name.replace('-', '_')}_rw" if row.database else None,
        groups=(Group(row.name),),
        slots=row.slots,
        folder=folder,
        variables={name: str(value) for name, value in row.settings.items()},
    )


def _refuse_twice(names: Sequence[str], what: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two {what} {', '.join(twice)}", cure="change it in one of the folders")
