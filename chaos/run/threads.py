"""Work side by side, and what went wrong in it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(name: str, body: Callable[[], object], *, every_seconds: float) -> Iterator[None]:
    """Do it again and again beside the block, first after so many seconds."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_seconds):
            body()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Threads:
    """Daemon threads; the first error that one of them raises is raised where they are waited for."""

    def __init__(self) -> None:
        self._started: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self, name: str, body: Callable[[], object]) -> threading.Thread:
        """Start one more."""

        def run() -> None:
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self._failures.append(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._started.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        """Wait until all are over; raise what the first one that failed raised."""
        for thread in self._started:
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise what the first one that failed so far raised."""
        if self._failures:
            raise self._failures[0]
