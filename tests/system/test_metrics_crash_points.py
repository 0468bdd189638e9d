"""Kill a metrics process where it hurts; the slot's next process goes on, and the minutes are those of no kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.run.plan import Action, Arm, read_evidence, write_plan
from common.events.codec import Codec
from common.events.volume import MINUTE_MS, VolumePartial
from common.topics import INVENTORY_FAILED, METRICS_PARTIALS
from tests.outcomes import LONG_AGO, QUICK, Outcomes, orders, totals
from tests.pipeline import Pipeline, open_pipeline
from tests.processes import Process
from tests.records import codec_of, read, wait_for
from tests.stack import Stack
from tests.system.workers import FAST, verdict

pytestmark = pytest.mark.xdist_group("metrics-crash-points")  # one scene for all, judged at the end

LATER = {"PIPELINE_METRICS_IDLE_SECONDS": "60"}


class Scene:
    """One pipeline for all points; each round has minutes of its own."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline = pipeline
        self.expected: dict[int, int] = {}
        self._outcomes = Outcomes(pipeline)
        self._plan, self._evidence = folder / "plan.json", folder / "evidence.jsonl"
        self._codec: Codec = codec_of(pipeline)

    def start(self, step: str, **env: str) -> Process:
        places = {"CHAOS_PLAN": str(self._plan), "CHAOS_EVIDENCE": str(self._evidence)}
        return self.pipeline.start(
            "chaos.run.launch", "metrics_service", step, role="reader", env={**QUICK, **FAST, **places, **env}
        )

    def arm(self, point: str) -> Arm:
        arm = Arm(point=point, action=Action.KILL)
        write_plan(self._plan, [arm])
        return arm

    def load(self) -> int:
        """Write two minutes whose orders come out of turn: the first closes while the second is open, then one is late.

        So the first record of the open window lies before records of the closed one.
        """
        first = len(self.expected)
        one, two = (LONG_AGO + (first + number) * MINUTE_MS for number in range(2))
        self._outcomes.write([one, two + 1, one + 5, two + 1000, one + 7, two + 5])
        self._outcomes.write([one + 3, two + 3], topic=INVENTORY_FAILED, partition=1)
        self.expected |= {first: 4, first + 1: 4}
        return one

    def assert_counted(self) -> None:
        wait_for(lambda: orders(self.pipeline) == self.expected, what=f"{self.expected}")
        assert {total.late for total in totals(self.pipeline).values()} <= {0, 1}
        in_time = [
            (partial.topic, partial.partition, partial.minute_ms)
            for partial in (
                self._codec.decode(VolumePartial, seen.value) for seen in read(self.pipeline, METRICS_PARTIALS)
            )
            if not partial.late
        ]
        assert len(in_time) == len(set(in_time)), "a partition published the same minute twice"

    def killed(self, process: Process, arm: Arm, *, txn_open: bool) -> None:
        assert process.wait(timeout_seconds=30) == -9, process.output()
        fired = [line for line in read_evidence(self._evidence) if line.arm == arm.id]
        assert [(line.pid, line.txn_open) for line in fired] == [(process.pid, txn_open)]


@pytest.fixture(scope="module")
def scene(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("metrics-crash-points")
    with open_pipeline(servers, logs=folder, partitions=2) as pipeline:
        yield Scene(pipeline, folder)


@pytest.mark.parametrize(
    ("point", "txn_open"),
    [("produced", True), ("committed", False)],
)
def test_killed_while_minutes_are_counted(scene: Scene, point: str, txn_open: bool) -> None:  # noqa: FBT001 - a parameter of the test
    arm = scene.arm(f"metrics:{point}")
    adding = scene.start("totals")
    counting = scene.start("windows")
    scene.load()
    scene.killed(counting, arm, txn_open=txn_open)
    successor = scene.start("windows")
    scene.assert_counted()
    assert (successor.stop(), adding.stop()) == (0, 0)


def test_killed_once_the_open_windows_are_filled_again(scene: Scene) -> None:
    """Two processes die over the same open window: the first after it published another, the second after refilling."""
    adding = scene.start("totals")
    scene.arm("metrics:never")
    counting = scene.start("windows", **LATER)
    one = scene.load()
    wait_for(lambda: one in totals(scene.pipeline), what="the minute that the watermark closes")
    counting.kill()
    arm = scene.arm("metrics:window.refilled")
    scene.killed(scene.start("windows"), arm, txn_open=False)
    successor = scene.start("windows")
    scene.assert_counted()
    assert (successor.stop(), adding.stop()) == (0, 0)


def test_killed_while_minutes_are_added_up(scene: Scene) -> None:
    arm = scene.arm("metrics-totals:offsets_sent")
    counting = scene.start("windows")
    adding = scene.start("totals")
    scene.load()
    scene.killed(adding, arm, txn_open=True)
    arm = scene.arm("metrics-totals:committed")
    scene.killed(scene.start("totals"), arm, txn_open=False)
    successor = scene.start("totals").wait_ready()
    scene.assert_counted()
    assert (successor.stop(), counting.stop()) == (0, 0)


def test_checker_finds_every_minute_sound_after_all_of_this(scene: Scene) -> None:
    """Orders and decisions there are none: the events were written by hand."""
    rulings = {ruling.invariant: ruling for ruling in verdict(scene.pipeline, wait_seconds=0).rulings}
    assert rulings["S12"].judged > len(scene.expected)
    assert rulings["S12"].examples == ()
