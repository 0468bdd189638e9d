"""The inputs of one group, looked at from outside: an `InputLog` for each of them, asked as one."""

from collections.abc import Mapping, Sequence

from onceloop.config import KafkaConfig
from onceloop.kafka.input_log import InputLog, Reading
from onceloop.records import Partition


class InputLogs:
    """Answers for several topics what `InputLog` answers for one. Its methods raise Busy if the broker does not."""

    def __init__(self, kafka: KafkaConfig, *, group_id: str, dead_letters: Mapping[str, str]) -> None:
        self._logs = {
            topic: InputLog(kafka, topic=topic, group_id=group_id, dead_letters=letters)
            for topic, letters in dead_letters.items()
        }

    def committed(self) -> dict[Partition, int]:
        """Return the group's offset on each partition that it has one for."""
        return {at: offset for log in self._logs.values() for at, offset in log.committed().items()}

    def read(self, wanted: Mapping[Partition, tuple[int, int]]) -> Reading:
        """Read the records from the first offset up to the second, both per partition, topic by topic."""
        readings = [
            self._logs[topic].read({at: span for at, span in wanted.items() if at.topic == topic})
            for topic in sorted({at.topic for at in wanted})
        ]
        return _joined(readings)

    def dead_letters(self) -> set[tuple[Partition, int]]:
        """Return the records that the group has dead-lettered, by their coordinates."""
        return {source for log in self._logs.values() for source in log.dead_letters()}


def _joined(readings: Sequence[Reading]) -> Reading:
    return Reading(
        [record for reading in readings for record in reading.records],
        {at: first for reading in readings for at, first in reading.firsts.items()},
        {at: reached for reading in readings for at, reached in reading.reached.items()},
    )
