"""Refuse what an app cannot be given, worded by what was given. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from onceloop.errors import ConfigError

TOPIC_CHARACTERS_MAX = 249
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_TOPIC_RULE = "letters, digits, dots, dashes and underscores, 249 at most"
_GROUP = re.compile(r"[A-Za-z0-9._-]{1,200}")
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_SCHEMA_RULE = (
    "lower-case letters, digits and underscores, a letter or an underscore first, 63 at most, not beginning with pg_"
)


class App(Protocol):
    """An app, as far as it is looked at here; see `Once`."""

    group: str
    schema: str
    slot: int
    batch_records_max: int
    inputs: list[str]
    outputs: list[str]
    topic_prefix: str

    @property
    def input_topics(self) -> list[str]:
        """Return the inputs' names on the cluster."""

    def dead_letter_topic(self, topic: str) -> str:
        """Return where the dead letters of an input go."""


def schema_of(group: str) -> str:
    """Return the name of a group's schema, if none is given."""
    return re.sub(r"[^a-z0-9_]", "_", group.lower())


def several(name: str, texts: Sequence[str]) -> Sequence[str]:
    """Return what was given for several. Raises ConfigError for one text, which is a sequence of texts too."""
    if isinstance(texts, str | bytes):
        raise ConfigError(f"{name}={texts!r}: one text where a list of them belongs", cure=f"write {name}=[{texts!r}]")
    return texts


def exceptions(classes: tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    """Return the exceptions that were given. Raises ConfigError for anything else, such as one of them alone."""
    fit = isinstance(classes, tuple) and all(isinstance(each, type) and issubclass(each, Exception) for each in classes)
    if not fit:
        raise ConfigError(
            f"surroundings={classes!r}: a tuple of exception classes belongs there",
            cure="write surroundings=(Timeout,), with a comma also where there is one",
        )
    return classes


def complaints(app: App) -> Iterator[str]:
    """Yield what is wrong with the names and numbers of an app."""
    if not _GROUP.fullmatch(app.group):
        yield f"group={app.group!r}: letters, digits, dots, dashes and underscores, 200 at most"
    if not _SCHEMA.fullmatch(app.schema):
        yield (
            f"group={app.group!r}: the schema is named after it, and {app.schema!r} is not a name for one:"
            f" {_SCHEMA_RULE}. Give it another: schema=..."
            if app.schema == schema_of(app.group)
            else f"schema={app.schema!r}: {_SCHEMA_RULE}"
        )
    if app.slot < 0:
        yield f"slot={app.slot}: slots count from 0"
    if app.batch_records_max < 1:
        yield f"batch_records_max={app.batch_records_max}: at least 1"
    yield from _topic_complaints(app)


def _topic_complaints(app: App) -> Iterator[str]:
    if not app.inputs or len(set(app.inputs)) < len(app.inputs):
        yield f"inputs={app.inputs}: one topic at least, each once"
    for name in (*app.inputs, *app.outputs):
        if not _TOPIC.fullmatch(app.topic_prefix + name):
            yield f"topic {app.topic_prefix + name!r}: {_TOPIC_RULE}"
    for name in map(app.dead_letter_topic, app.input_topics):
        if len(name) > TOPIC_CHARACTERS_MAX:
            yield f"topic {name!r}: {_TOPIC_RULE}"
    if both := set(app.inputs) & set(app.outputs):
        yield f"{', '.join(sorted(both))}: an input and an output, so each record would lead to another, for ever"
