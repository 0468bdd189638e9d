"""An observer that writes log events as plain lines: what a program has that brings no logging of its own."""

import sys
import time
import traceback
from collections.abc import Callable

from onceloop.telemetry import Level, Silent

_HIDDEN = frozenset({"debug"})


class LinesObserver(Silent):
    """Writes to standard error: time, level, event, fields. Leaves debug events out."""

    def __init__(self, write: Callable[[str], object] = sys.stderr.write) -> None:
        self._write = write

    def log(self, level: Level, event: str, /, **fields: object) -> None:
        """Write one line, and the traceback of an exception below it."""
        if level in _HIDDEN:
            return
        error = fields.pop("exc_info", None)
        shown = "".join(f" {name}={value}" for name, value in fields.items())
        self._write(f"{time.strftime('%H:%M:%S')} {level:<7} {event}{shown}\n")
        if isinstance(error, BaseException):
            self._write("".join(traceback.format_exception(error)))
