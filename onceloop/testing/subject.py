"""The app under test: the one place of the harness that knows `Once`.

The harness reads names from it and asks its key function; a process of a trial is the app itself under other names.
"""

import copy
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from onceloop import InputRecord, Once, Partition, Refused, ReportedError
from onceloop.testing.case import CaseError, Item
from onceloop.testing.facts import Place

POISON_VALUE = b"onceloop.testing: poison"
"""The harness raises in the handler's place when it meets this value."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a trial calls things by, and where its servers are."""

    bootstrap: str
    dsn: str
    group: str
    prefix: str
    batch_records_max: int

    def as_json(self) -> str:
        """Return it as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `as_json` wrote."""
        return cls(**json.loads(text))


class Subject:
    """The user's app as the harness sees it. `path`: MODULE:NAME. Raises CaseError if there is no app."""

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        try:
            found = getattr(importlib.import_module(module), name or "app", None)
        except ModuleNotFoundError as error:
            raise CaseError(f"app: {error}; write package.module:name, as an import from here would") from error
        if not isinstance(found, Once):
            raise CaseError(f"app: there is no Once at {path}; write package.module:name")
        self.path = path
        self._app = found

    @property
    def group(self) -> str:
        """Return its group."""
        return self._app.group

    @property
    def inputs(self) -> Sequence[str]:
        """Return its input topics."""
        return self._app.inputs

    @property
    def outputs(self) -> Sequence[str]:
        """Return its output topics."""
        return self._app.outputs

    @property
    def schema(self) -> str:
        """Return the PostgreSQL schema that holds its decisions."""
        return self._app.schema

    @property
    def client_options(self) -> Mapping[str, Any]:
        """Return the options of every Kafka client of the app, such as its security."""
        return self._app.kafka.options

    def name_of(self, item: Item, place: Place) -> bytes:
        """Return what the app's key function makes of a record; nothing where it raises: such a record is poison."""
        assert self._app.key is not None  # noqa: S101 - an app without a handler does not start either
        record = InputRecord(Partition(place.topic, place.partition), place.offset, item.key, item.value)
        try:
            key = self._app.key(record)
        except Exception:  # noqa: BLE001 - any code of the user's; the processes under test say what it was
            return b""
        return key.encode() if isinstance(key, str) else key or b""

    def initialise(self, names: Names) -> None:
        """Make schema, tables and first offsets under these names. Raises CaseError if the app refuses to begin."""
        app = copy.copy(self._app)
        _rename(app, names)
        try:
            app.init()
        except ReportedError as error:
            raise CaseError(f"app: {error.message}; {error.cure}") from error

    def be(self, names: Names, *, slot: int) -> None:
        """Run the app under these names until a signal, and end the process."""
        _rename(self._app, names)
        self._app.slot = slot
        self._app.wrap(_refusing_poison)
        self._app.main(["run"])


def _rename(app: Once, names: Names) -> None:
    app.kafka = replace(app.kafka, bootstrap=names.bootstrap)
    app.postgres = names.dsn
    app.group = names.group
    app.topic_prefix = names.prefix
    app.batch_records_max = names.batch_records_max
    app.password = str  # it is in the DSN
    app.health_port = None


def _refusing_poison(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler, but for the harness's own poison: what it did for others before that must be undone."""

    def handle(given: InputRecord | Sequence[InputRecord], db: Any) -> Any:
        if isinstance(given, InputRecord):
            if given.value == POISON_VALUE:
                raise Refused("the harness's own poison")
            return handler(given, db)
        good = [record for record in given if record.value != POISON_VALUE]
        returned = handler(good, db) if good else []
        if len(good) < len(given):
            raise Refused("the harness's own poison")
        return returned

    return handle
