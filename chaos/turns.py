"""Who may act now: many side by side, or one alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Faults meet each other; one that must be alone waits until no other acts, and none begins before it is over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._acting = 0
        self._waiting_alone = 0
        self._alone = False

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait for a turn; it lasts as long as the block."""
        with self._changed:
            if alone:
                self._waiting_alone += 1
                self._changed.wait_for(lambda: not self._acting and not self._alone)
                self._waiting_alone -= 1
                self._alone = True
            else:
                self._changed.wait_for(lambda: not self._waiting_alone and not self._alone)
                self._acting += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._acting -= 1
                self._changed.notify_all()
