"""What the loops take from the world around them: observer, clock, chance, clients, threads.

The defaults are the real ones. A guest hands in an observer; a model of the world hands in all of it.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import confluent_kafka

from onceloop.bounded_call import Caller
from onceloop.telemetry import SILENT, Observer


class Clock(Protocol):
    """Time as the module `time` has it, in seconds."""

    def monotonic(self) -> float:
        """Return a time that never goes back."""

    def perf_counter(self) -> float:
        """Return the finest such time."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""

    def time_ns(self) -> int:
        """Return the wall clock's time since the epoch, in nanoseconds."""


def start_thread(work: Callable[[], None], name: str) -> None:
    """Do the work in a daemon thread of its own."""
    threading.Thread(target=work, name=name, daemon=True).start()


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Runtime:
    """Handed to the loop, its consumer, its producers and its connection alike.

    `jitter` returns a number between its two arguments, `new_id` the text of a UUID that no other call returns.
    `consumer` and `producer` build librdkafka's clients from options and a logger. `start_thread` has work done apart,
    under a name; `caller` makes a producer's blocking calls.
    """

    observer: Observer = SILENT
    clock: Clock = time
    jitter: Callable[[float, float], float] = random.uniform  # noqa: S311 - spreads retries
    new_id: Callable[[], str] = _new_id
    consumer: Callable[..., Any] = confluent_kafka.Consumer
    producer: Callable[..., Any] = confluent_kafka.Producer
    start_thread: Callable[[Callable[[], None], str], None] = start_thread
    caller: Callable[[], Caller] = Caller


REAL = Runtime()
