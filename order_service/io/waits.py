"""Wait for an order's status in a request's thread; only so many at a time, so that threads are left for others."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from order_service.core.status import OrderStatus

LOOK_SECONDS_MIN = 0.01
LOOK_SECONDS_MAX = 0.1


class Look(NamedTuple):
    """What was found, and whether it was waited for, if it had to be."""

    found: OrderStatus | None
    waited: bool


class Waits:
    """Shared by all threads. `stopping` ends waits early when the process is asked to stop."""

    def __init__(self, waits_max: int, *, stopping: Callable[[], bool]) -> None:
        self._places = threading.BoundedSemaphore(waits_max)
        self._stopping = stopping

    def look(self, find: Callable[[], OrderStatus | None], *, seconds: float) -> Look:
        """Look at once, then again at growing intervals until something is found or the time is over.

        Where too many wait already, look once: the answer is the same as if nothing had been asked to wait.
        """
        if (found := find()) is not None or seconds <= 0:
            return Look(found, waited=True)
        if not self._places.acquire(blocking=False):
            return Look(None, waited=False)
        try:
            return Look(self._look_on(find, until=time.monotonic() + seconds), waited=True)
        finally:
            self._places.release()

    def _look_on(self, find: Callable[[], OrderStatus | None], *, until: float) -> OrderStatus | None:
        pause_seconds = LOOK_SECONDS_MIN
        while not self._stopping() and (left := until - time.monotonic()) > 0:
            time.sleep(min(pause_seconds, left))
            if (found := find()) is not None:
                return found
            pause_seconds = min(2 * pause_seconds, LOOK_SECONDS_MAX)
        return None
