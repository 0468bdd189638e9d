"""The real loop and step on the model's cluster: whatever is interleaved, no rule breaks; and the model is no blank."""

import subprocess
import sys

import pytest
from confluent_kafka import KafkaError

from chaos.model import Exploration, explore, replay
from chaos.model.broker import Fate, PartitionLog, ProducerEpoch, Refused
from chaos.model.group import Group, Membership
from chaos.model.transactions import TransactionCoordinator
from onceloop import failpoints
from onceloop import transactional as transactional_loop
from onceloop.records import OutputRecord, Partition

INTERLEAVINGS = 400
RECORD = OutputRecord("out", b"key", b"value")
A, B = Partition("in", 0), Partition("in", 1)


@pytest.fixture(scope="module")
def explored() -> Exploration:
    return explore(1, INTERLEAVINGS)


def test_no_interleaving_loses_doubles_or_mismatches_anything(explored: Exploration) -> None:
    assert explored.failed is None, explored.failed and explored.failed.story()
    assert explored.interleavings == INTERLEAVINGS


def test_exploration_takes_every_recovery_path__or_it_would_be_void(explored: Exploration) -> None:
    assert explored.missing == ()


def test_same_seed_takes_the_same_steps__also_in_another_process() -> None:
    seed = 12
    first, second = replay(seed), replay(seed)
    assert first.steps == second.steps
    assert len(first.steps) > 50
    code = f"from chaos.model import replay; print(replay({seed}).steps)"
    other = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "4711"}, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == str(first.steps)


def test_product_is_itself_again_after_a_play() -> None:
    before = (failpoints.point, dict(vars(transactional_loop)))
    replay(1)
    assert (failpoints.point, dict(vars(transactional_loop))) == before


def test_progress_is_reported_after_each_interleaving() -> None:
    reported: list[int] = []
    explore(1, 3, reported.append)
    assert reported == [1, 2, 3]


def test_repeated_batch_is_acknowledged_and_written_once() -> None:
    log = PartitionLog()
    for _ in range(2):
        log.append(ProducerEpoch(1, 0), 0, [RECORD])
    assert len(log.entries) == 1


def test_records_are_visible_from_their_marker_on__and_nothing_behind_an_open_one() -> None:
    log = PartitionLog()
    log.append(ProducerEpoch(1, 0), 0, [RECORD])
    log.append(ProducerEpoch(2, 0), 0, [RECORD])
    log.mark(ProducerEpoch(2, 0), Fate.COMMITTED)
    assert log.visible() == []
    log.mark(ProducerEpoch(1, 0), Fate.ABORTED)
    assert [offset for offset, _ in log.visible()] == [1]


def test_new_epoch_aborts_what_the_old_one_left_open_and_fences_it() -> None:
    marked: list[Fate] = []
    coordinator = TransactionCoordinator(lambda _writer, _partition, fate: marked.append(fate))
    old = coordinator.initialise("slot")
    coordinator.add(old, A)
    with pytest.raises(Refused, match="CONCURRENT_TRANSACTIONS"):
        coordinator.initialise("slot")
    coordinator.write_marker(lambda targets: targets[0])
    new = coordinator.initialise("slot")
    assert marked == [Fate.ABORTED]
    assert new.epoch > old.epoch
    with pytest.raises(Refused, match="INVALID_PRODUCER_EPOCH"):
        coordinator.end(old, Fate.COMMITTED)


def test_late_end_of_one_transaction_ends_the_next_of_the_same_epoch() -> None:
    """What librdkafka's protocol allows, and why a producer is thrown away after an unsure end."""
    coordinator = TransactionCoordinator(lambda *_: None)
    writer = coordinator.initialise("slot")
    for _ in range(2):
        coordinator.add(writer, A)
        coordinator.end(writer, Fate.COMMITTED)
        coordinator.write_marker(lambda targets: targets[0])
    coordinator.add(writer, A)
    assert not coordinator.at_rest
    coordinator.end(writer, Fate.COMMITTED)
    coordinator.write_marker(lambda targets: targets[0])
    assert coordinator.at_rest


def joined(group: Group, *instances: str) -> dict[str, Membership]:
    members = {instance: group.join(instance, "") for instance in instances}
    for instance, member in members.items():
        group.join(instance, member)
    return {instance: Membership(group.generation, member, instance) for instance, member in members.items()}


def test_offsets_of_a_former_member_are_refused__those_without_a_member_are_not() -> None:
    group = Group((A, B), {A: 0, B: 0})
    former = joined(group, "0", "1")["0"]
    group.expel("0")
    with pytest.raises(Refused, match="UNKNOWN_MEMBER_ID"):
        group.commit_in_transaction(1, former, {A: 5})
    group.commit_in_transaction(1, Membership(-1, "", ""), {A: 5})
    assert not group.is_stable(A)
    group.mark(1, Fate.COMMITTED)
    assert group.committed[A] == 5


def test_restart_in_a_slot_moves_nothing_and_fences_the_former_process() -> None:
    group = Group((A, B), {A: 0, B: 0})
    former = joined(group, "0", "1")["0"]
    group.join("0", "")
    assert group.generation == former.generation
    assert not group.rebalancing
    with pytest.raises(Refused) as refused:
        group.commit_in_transaction(1, former, {A: 5})
    assert refused.value.code == KafkaError.FENCED_INSTANCE_ID
