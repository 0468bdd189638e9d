"""An observer that writes log events by structlog; needs the extra `structlog`."""

from typing import Any

import structlog

from onceloop.telemetry import Level, Silent


class StructlogObserver(Silent):
    """Logs by the given logger, or by the one that structlog is configured for."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger if logger is not None else structlog.get_logger()

    def log(self, level: Level, event: str, /, **fields: object) -> None:
        """Write one line at the level."""
        getattr(self._logger, level)(event, **fields)
