"""Put the product's own modules onto the fakes: what they import is replaced here, and only while the model runs.

The product has no switch for it. Replaced are the client classes, the clock and chance, the stores' SQL, logs and
metrics (the latter count which recovery paths ran), and the failpoints, each of which is a step.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from chaos.model.world import World
from common import metrics
from inventory_service.io import decision_store, doubtful_starts, outcome_events, proof, step, unsettled
from onceloop import failpoints
from onceloop import transactional as transactional_loop
from onceloop.kafka import group_consumer as consumer
from onceloop.kafka import lag
from onceloop.kafka import transactional_producer as producer
from onceloop.postgres import halving, retry


class Stage:
    """The world on stage; the replaced modules find it here."""

    def __init__(self) -> None:
        self._world: World | None = None
        self._threads = SimpleNamespace(Thread=_AtOnce)

    def show(self, world: World) -> None:
        """Let the product act in this world from now on."""
        self._world = world

    @property
    def world(self) -> World:
        """Return the world that plays."""
        assert self._world is not None  # noqa: S101 - nothing of the product runs between two worlds
        return self._world

    @contextmanager
    def set(self) -> Iterator[None]:
        """Replace what the product's modules import until the block ends."""
        silent, meters, clock = _Silent(), _Meters(self), self._clock()
        replaced: Mapping[Any, dict[str, Any]] = {
            failpoints: {"point": self._point},
            transactional_loop: {"time": clock, "log": silent, "metrics": meters, "_spare_the_collector": _nothing},
            producer: {
                "time": clock,
                "log": silent,
                "metrics": meters,
                "threading": self._threads,
                "confluent_kafka": self._client(),
                "Caller": _CallsItself,
            },
            consumer: {"time": clock, "log": silent, "confluent_kafka": self._client()},
            lag: {"log": silent, "metrics": meters},  # a killed worker's gauges would outlive it
            retry: {"time": clock, "log": silent, "random": SimpleNamespace(uniform=lambda least, _most: least)},
            step: {
                "time": clock,
                "log": silent,
                "metrics": meters,
                "decision_store": SimpleNamespace(
                    GUARDS=decision_store.GUARDS, read=_read, record=_record, recording=_recording
                ),
                "progress_store": SimpleNamespace(note=_note),
            },
            outcome_events: {"uuid_utils": SimpleNamespace(uuid7=self._event_id)},
            doubtful_starts: {
                "log": silent,
                "start_store": SimpleNamespace(count_start=_count_start, take_start_back=_take_start_back),
            },
            unsettled: {"metrics": meters},
            halving: {"log": silent},
            proof: {
                "log": silent,
                "decision_store": SimpleNamespace(decided=_decided),
                "progress_store": SimpleNamespace(note=_note, answered=_answered),
            },
        }
        with ExitStack() as replacements:
            for module, names in replaced.items():
                for name, value in names.items():
                    replacements.enter_context(patch.object(module, name, value))
            yield

    def _point(self, name: str) -> None:
        self.world.scheduler.step(name.partition(":")[2])

    def _event_id(self) -> str:
        return self.world.next_event_id()

    def _clock(self) -> SimpleNamespace:
        return SimpleNamespace(
            monotonic=lambda: self.world.scheduler.now,
            perf_counter=lambda: self.world.scheduler.now,
            time_ns=lambda: int(self.world.scheduler.now * 1_000) * 1_000_000,
            sleep=lambda seconds: self.world.scheduler.wait("sleeping", seconds),
        )

    def _client(self) -> SimpleNamespace:
        return SimpleNamespace(
            Producer=lambda options, *, logger: self.world.open_producer(options, logger),
            Consumer=lambda options, *, logger: self.world.open_consumer(options, logger),
        )


class _AtOnce:
    """Stands for a thread whose work has no step in it."""

    def __init__(self, *, target: Any, name: str, daemon: bool) -> None:  # noqa: ARG002 - the signature of Thread
        self._target = target

    def start(self) -> None:
        self._target()


class _CallsItself:
    """Stands for the thread that makes a producer's calls: the scheduler runs one thread per worker."""

    def call(self, _seconds: float, work: Any) -> None:
        """Make the call here."""
        work()

    def close(self) -> None:
        """Do nothing: there is no thread."""


class _Silent:
    """Stands for a logger."""

    def debug(self, _event: str, **_fields: object) -> None:
        """Say nothing."""

    info = warning = error = exception = debug


class _Meters:
    """Stands for the metrics module: every counter counts in the world's tally, under its labels."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __getattr__(self, name: str) -> "_Meter | str":
        if isinstance(said := getattr(metrics, name), str):
            return said  # the value of a label
        meter = _Meter(self._stage, name.lower())
        setattr(self, name, meter)
        return meter


class _Meter:
    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self._name = name

    def labels(self, *labels: object) -> "_Meter":
        return _Meter(self._stage, f"{self._name}: {', '.join(map(str, labels))}")

    def remove(self, *_labels: object) -> None:
        """Nothing is recorded of a gauge."""

    def inc(self, amount: float = 1) -> None:
        tally: Counter[str] = self._stage.world.tally
        tally[self._name] += int(amount)

    def set(self, _value: float) -> None:
        """Gauges say nothing of a path."""

    def observe(self, _value: float) -> None:
        """Nor do histograms."""


def _nothing() -> None:
    """Leave the collector alone."""


def _read(connection: Any, **asked: Any) -> Any:
    return connection.read(**asked)


def _record(connection: Any, **rows: Any) -> None:
    connection.record(**rows)


@contextmanager
def _recording(connection: Any, **rows: Any) -> Iterator[None]:
    yield
    connection.record(**rows)


def _note(connection: Any, committed: Any) -> None:
    connection.note(committed)


def _answered(connection: Any, partitions: Any) -> Any:
    return connection.answered(partitions)


def _decided(connection: Any, order_ids: Any) -> Any:
    return connection.decided(order_ids)


def _count_start(connection: Any, *at: Any) -> Any:
    return connection.count_start(*at)


def _take_start_back(connection: Any, *at: Any) -> None:
    connection.take_start_back(*at)
