"""Make a call of the Kafka client that is sure to end for its caller, whatever becomes of it inside.

`send_offsets_to_transaction` of librdkafka 2.16.0 takes a time-out and forgets it when the group's coordinator cannot
be reached where the broker said it is (issues 5456, 5511): the call then waits for a connection that never comes, also
once the broker answers well again.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from onceloop.errors import FatalError

STUCK_MAX = 3
"""Each call that never returns keeps its thread and its client until the process ends."""

_stuck: list[threading.Thread] = []


class Unanswered(Exception):  # noqa: N818 - what is known of the call, not what is wrong
    """The call has not returned; it is not known what it did or will do."""


class Caller:
    """A thread that makes calls for another one, one at a time. Not to be used again after Unanswered."""

    def __init__(self) -> None:
        """Raise FatalError if too many calls of this process have not returned: a new one takes up without them."""
        _stuck[:] = [thread for thread in _stuck if thread.is_alive()]
        if len(_stuck) > STUCK_MAX:
            raise FatalError(
                f"{len(_stuck)} calls of the Kafka client have not returned",
                cure="let it be restarted; if it repeats, ask where the broker says that the group's coordinator is",
            )
        self._asked: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, seconds: float, work: Callable[[], Any]) -> None:
        """Make the call, and wait for its end. Raises what it raises, or Unanswered after so many seconds."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="client-calls", daemon=True)
            self._thread.start()
        self._asked.put(work)
        try:
            error = self._answers.get(timeout=seconds)
        except Empty:
            _stuck.append(self._thread)
            raise Unanswered(f"no return within {seconds:.0f} s") from None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame: a ring that would keep the client until the collector comes

    def close(self) -> None:
        """Let the thread end, once its call has returned."""
        self._asked.put(None)

    def _serve(self) -> None:
        while (work := self._asked.get()) is not None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was asked for
                self._answers.put(error)
            else:
                self._answers.put(None)
            del work  # it holds the client, which ends with its last reference
