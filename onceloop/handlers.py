"""Call a user's handler, and hold what it returns to the contract.

A handler is given new records alone, in order, and a connection inside a transaction. What it raises is passed on with
the index of the record, where that is known.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from onceloop.config import MESSAGE_BYTES_MAX
from onceloop.errors import ContractError, Poison
from onceloop.records import InputRecord, OutputRecord

Key = Callable[[InputRecord], bytes | str | None]
Returned = Iterable[OutputRecord] | None
EachHandler = Callable[[InputRecord, Any], Returned]
BatchHandler = Callable[[Sequence[InputRecord], Any], Iterable[Returned]]
Outputs = tuple[OutputRecord, ...]

_LIST_PER_RECORD = "return one list of OutputRecords per record, in order; an empty one for a record without any"

RECORD_OVERHEAD_BYTES = 200
"""What a record takes on a topic beside its parts, at most."""

H = TypeVar("H", bound=Callable[..., Any])


class Refused(Exception):  # noqa: N818 - read as `raise Refused("...")`
    """Raised by a handler or a key function: this record is wrong for good. It becomes a dead letter.

    Nothing that the handler did for it is kept. The text is the dead letter's reason.
    """


class HandlerRaised(Exception):  # noqa: N818 - carries another exception, which is the error
    """What a handler raised; `index`: for which of the records it was given, None if it was given all at once."""

    def __init__(self, error: Exception, index: int | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.index = index


class Handling(Protocol):
    """A handler as a step calls it."""

    def __call__(self, records: Sequence[InputRecord], db: Any, *, enough: Callable[[], bool]) -> list[Outputs]:
        """Return the outputs of the records from the first on; of fewer than all once `enough` says so.

        Raises HandlerRaised for what the handler raised, ContractError for what it must not return.
        """


class Each:
    """Calls a handler record by record; `own`: turns a record into what the handler sees."""

    def __init__(self, handler: EachHandler, outputs: "OutputCheck") -> None:
        self._handler = handler
        self._outputs = outputs

    def __call__(self, records: Sequence[InputRecord], db: Any, *, enough: Callable[[], bool]) -> list[Outputs]:
        """Return outputs record by record, as described for `Handling`."""
        done: list[Outputs] = []
        for index, record in enumerate(records):
            if done and enough():
                break
            try:
                returned = self._handler(record, db)
                done.append(self._outputs.checked(returned))
            except ContractError:
                raise
            except Exception as error:
                raise HandlerRaised(error, index) from error
        return done


class AllAtOnce:
    """Calls a handler with all records of a batch."""

    def __init__(self, handler: BatchHandler, outputs: "OutputCheck") -> None:
        self._handler = handler
        self._outputs = outputs

    def __call__(
        self,
        records: Sequence[InputRecord],
        db: Any,
        *,
        enough: Callable[[], bool],  # noqa: ARG002 - all or nothing
    ) -> list[Outputs]:
        """Return the outputs of all, as described for `Handling`."""
        try:
            done = [self._outputs.checked(each) for each in _lists(self._handler(records, db))]
        except ContractError:
            raise
        except Exception as error:
            raise HandlerRaised(error, 0 if len(records) == 1 else None) from error
        if len(done) != len(records):
            raise ContractError(
                f"the batch handler returned {len(done)} lists for {len(records)} records", cure=_LIST_PER_RECORD
            )
        return done


class OutputCheck:
    """Holds what a handler returns to the contract. `prefix` is put before the names of topics."""

    def __init__(self, outputs: Sequence[str], *, prefix: str) -> None:
        self._topics = {name: prefix + name for name in outputs}
        self._renames = bool(prefix)

    def checked(self, returned: Returned) -> Outputs:
        """Return what a handler returned for one record, by the topics' names on the cluster.

        Raises ContractError for anything that is no OutputRecord of a topic among the outputs, Poison for a record that
        no topic takes.
        """
        if returned is None:
            return ()
        if isinstance(returned, OutputRecord | str | bytes) or not isinstance(returned, Iterable):
            raise ContractError(
                f"the handler returned {_named(returned)}",
                cure="return a list of OutputRecords (or yield them), also where there is one; None for nothing",
            )
        return tuple([self._one(each) for each in returned])

    def _one(self, record: OutputRecord) -> OutputRecord:
        if not isinstance(record, OutputRecord):
            raise ContractError(
                f"the handler returned a list with {_named(record)} in it", cure="return OutputRecords, nothing else"
            )
        if record.topic not in self._topics:
            raise ContractError(
                f"the handler returned a record for the topic {record.topic!r}, which is none of its outputs:"
                f" {', '.join(self._topics) or 'there are none'}",
                cure="add the topic to outputs=[...] and create it, or return another one",
            )
        if record.is_dead_letter:
            raise ContractError(
                f"the handler returned a record for {record.topic} that calls itself a dead letter",
                cure='leave is_dead_letter out; a record is refused with `raise Refused("why")`',
            )
        for part, name in ((record.key, "key"), (record.value, "value")):
            if part is not None and not isinstance(part, bytes):
                raise ContractError(
                    f"the handler returned a record for {record.topic} whose {name} is {_named(part)}",
                    cure="encode it: keys and values are bytes, or None",
                )
        if (size := _size(record)) > MESSAGE_BYTES_MAX:
            raise Poison(f"an output of {size} bytes: a topic takes {MESSAGE_BYTES_MAX}", error_class="output")
        return record._replace(topic=self._topics[record.topic]) if self._renames else record


def refuse_async(handler: Callable[..., Any]) -> None:
    """Raise ContractError for a handler that would have to be awaited."""
    function = handler
    while isinstance(function, partial):
        function = function.func
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004 - an object with such a method
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise ContractError(
                f"{getattr(handler, '__name__', handler)!s} is async: the loop has one thread and no event loop. That"
                " nothing polls between a batch and its commit is part of why each record counts once",
                cure="write `def`, and `asyncio.run(...)` inside if there is something to await",
            )


def _lists(returned: Iterable[Returned]) -> Iterable[Returned]:
    if not isinstance(returned, Iterable):
        raise ContractError(f"the batch handler returned {_named(returned)}", cure=_LIST_PER_RECORD)
    return returned


def _size(record: OutputRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers) if record.headers else 0
    return len(record.key or b"") + len(record.value or b"") + headers + RECORD_OVERHEAD_BYTES


def _named(value: object) -> str:
    return f"{type(value).__name__} {value!r:.80}"
