"""The launcher acts at the armed point, once, and leaves its evidence first."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos.run.launch import Hook, InjectedError, Transactions
from chaos.run.plan import Action, Arm, read_evidence, read_plan, write_plan

REPOSITORY = Path(__file__).parents[3]

SERVICE = """
from onceloop import failpoints
for turn in range(3):
    failpoints.point("demo:taken")
    print("turn", turn, flush=True)
"""

TRANSACTIONAL = """
import confluent_kafka
from onceloop import failpoints
producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "transactional.id": "demo-0"})
failpoints.point("demo:inited")
producer.init_transactions(10)
producer.begin_transaction()
failpoints.point("demo:begun")
producer.produce("topic", b"value")
failpoints.point("demo:flushed")
print("all is sent:", not len(producer), flush=True)  # a record that was sent counts twice until its report is polled
producer.commit_transaction(10)
failpoints.point("demo:committed")
"""


CLOCKS = """
import datetime, json, time
import uuid_utils
from onceloop import failpoints
failpoints.point("demo:taken")
true = datetime.datetime.now().timestamp()
clocks = {"time_ns": time.time_ns() / 1e9, "time": time.time(), "uuid7": uuid_utils.uuid7().timestamp / 1e3}
print(json.dumps({name: round(read - true) for name, read in clocks.items()}))
"""


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = folder / "plan.json"
        self.evidence = folder / "fired.jsonl"

    def hook(self) -> Hook:
        return Hook(control=self.control, evidence=self.evidence, transactions=Transactions())

    def launch(self, source: str, *, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        (self.folder / "demo_service.py").write_text(source)
        named = {"CHAOS_PLAN": str(self.control), "CHAOS_EVIDENCE": str(self.evidence)}
        return subprocess.run(
            [sys.executable, "-m", "chaos.run.launch", "demo_service"],
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{self.folder}", **named, **(environment or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_process_is_killed_at_the_hit_that_was_named_and_leaves_evidence(files: Files) -> None:
    write_plan(files.control, [Arm(point="demo:taken", hit=2, action=Action.KILL)])

    ended = files.launch(SERVICE)

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "turn 0\n"
    (fired,) = read_evidence(files.evidence)
    assert (fired.point, fired.hit, fired.action, fired.txn_open) == ("demo:taken", 2, Action.KILL, False)


def test_an_arm_that_fired_does_not_fire_again_after_the_restart(files: Files) -> None:
    write_plan(files.control, [Arm(point="demo:taken", action=Action.KILL)])

    assert files.launch(SERVICE).returncode == -signal.SIGKILL
    assert files.launch(SERVICE).returncode == 0

    assert len(read_evidence(files.evidence)) == 1


def test_an_arm_fires_in_one_of_the_processes_that_share_the_plan(files: Files) -> None:
    write_plan(files.control, [Arm(point="demo:taken", action=Action.RAISE)])
    first, second = files.hook(), files.hook()

    with pytest.raises(InjectedError, match="demo:taken"):
        first("demo:taken")
    second("demo:taken")


def test_exit_unwinds_the_service(files: Files) -> None:
    write_plan(files.control, [Arm(point="demo:taken", action=Action.EXIT)])
    body = "".join(f"    {line}\n" for line in SERVICE.splitlines())

    ended = files.launch(f"try:\n{body}finally:\n    print('unwound')\n")

    assert (ended.returncode, ended.stdout) == (70, "unwound\n")


def test_evidence_says_whether_the_kafka_transaction_was_open(files: Files) -> None:
    points = ("demo:inited", "demo:begun", "demo:committed")
    write_plan(files.control, [Arm(point=point, action=Action.SLEEP) for point in points])

    ended = files.launch(TRANSACTIONAL)

    assert ended.returncode == 0, ended.stderr
    assert [(fired.point, fired.txn_open) for fired in read_evidence(files.evidence)] == [
        ("demo:inited", False),
        ("demo:begun", True),
        ("demo:committed", False),
    ]


@pytest.mark.parametrize("flush", [True, False])
def test_an_arm_that_flushes_has_the_producer_send_all_before(files: Files, *, flush: bool) -> None:
    write_plan(files.control, [Arm(point="demo:flushed", action=Action.SLEEP, flush=flush)])

    assert files.launch(TRANSACTIONAL).stdout == f"all is sent: {flush}\n"


def test_a_clock_set_back_is_what_the_service_reads_everywhere(files: Files) -> None:
    """Ids that carry the time as well: the service asks nothing but these."""
    write_plan(files.control, [Arm(point="demo:taken", action=Action.JUMP, seconds=-3600.0)])

    ended = files.launch(CLOCKS)

    assert json.loads(ended.stdout) == {"time_ns": -3600, "time": -3600, "uuid7": -3600}


def test_a_plan_written_while_the_process_runs_counts_hits_from_there(files: Files) -> None:
    hook = files.hook()
    hook("demo:taken")
    write_plan(files.control, [Arm(point="demo:taken", hit=2, action=Action.RAISE)])

    hook("demo:taken")
    with pytest.raises(InjectedError):
        hook("demo:taken")


def test_points_that_are_not_armed_do_nothing(files: Files) -> None:
    write_plan(files.control, [Arm(point="demo:taken", action=Action.KILL)])

    files.hook()("other:taken")

    assert read_evidence(files.evidence) == ()


def test_a_plan_written_by_hand_needs_point_and_action_alone(files: Files) -> None:
    files.control.write_text(json.dumps([{"point": "demo:taken", "action": "kill"}]))

    (arm,) = read_plan(files.control)

    assert (arm.hit, arm.action) == (1, Action.KILL)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"point": "demo:taken", "action": "explode"}, "explode"),
        ({"point": "taken", "action": "kill"}, "<service>:<point>"),
        ({"point": "demo:taken", "action": "kill", "hit": 0}, "counts from 1"),
        ({"point": "demo:taken", "action": "kill", "when": 2}, "when"),
        ({"point": "demo:taken"}, "action"),
    ],
)
def test_a_wrong_plan_is_refused_naming_the_entry(files: Files, entry: object, complaint: str) -> None:
    files.control.write_text(json.dumps([entry]))

    ended = files.launch(SERVICE)

    assert ended.returncode == 78
    assert "entry 0" in ended.stderr
    assert complaint in ended.stderr
