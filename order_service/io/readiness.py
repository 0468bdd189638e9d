"""Whether orders can be taken. What is missing is named, and why goes to the log alone: any client may ask."""

from collections.abc import Callable

from onceloop.errors import Busy
from order_service.io.payloads import ReadinessDocument
from order_service.io.publisher import Publisher
from order_service.io.status_store import StatusStore


class Readiness:
    """Asks the database, the broker and the schema. `stopping` turns true when the process was asked to stop."""

    def __init__(self, statuses: StatusStore, publisher: Publisher, *, stopping: Callable[[], bool]) -> None:
        self._statuses = statuses
        self._publisher = publisher
        self._stopping = stopping

    def document(self) -> ReadinessDocument:
        """Ask, within seconds."""
        missing = [*self._publisher.missing()]
        try:
            self._statuses.answers()
        except Busy:
            missing.append("database")
        if self._stopping():
            missing.append("process")
        return ReadinessDocument(ready=not missing, missing=missing)
