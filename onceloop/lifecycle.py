"""Turn SIGTERM and SIGINT into a flag that loops read between batches.

Handlers only set a flag: a signal that interrupts a Kafka commit must not become an exception there, and an
`Event.set` inside a handler could meet its own lock. A second signal, or a stop that outlasts its grace period, ends
the process at once, which is as safe as SIGKILL.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from onceloop.errors import ExitCode

STOP_GRACE_SECONDS = 4.5
WAIT_SLICE_SECONDS = 0.05


class Stop:
    """Whether to stop; usable as a wait that ends early."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Return True once a stop was asked for."""
        return self._asked

    def set(self) -> None:
        """Ask for the stop."""
        self._asked = True

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; return True as soon as a stop was asked for."""
        deadline = time.monotonic() + seconds
        while not self._asked and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(WAIT_SLICE_SECONDS, left))
        return self._asked


@contextmanager
def stop_signal(*, grace_seconds: float = STOP_GRACE_SECONDS) -> Iterator[Stop]:
    """Yield the flag that SIGTERM and SIGINT set; restore the former handlers afterwards.

    The grace period is the kernel's alarm with its default action: it ends the process even while a C call that does
    not return keeps Python from running.
    """
    stop = Stop()

    def ask(_signum: int, _frame: FrameType | None) -> None:
        if stop():
            os._exit(ExitCode.UNAVAILABLE)
        stop.set()
        signal.setitimer(signal.ITIMER_REAL, grace_seconds)

    former = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in former.items():
            signal.signal(number, handler)
