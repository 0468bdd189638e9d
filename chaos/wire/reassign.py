"""Move a partition to another broker. The client has no call for it, so it is asked for byte by byte.

Source of the format: the Kafka protocol guide, AlterPartitionReassignments (API key 45), version 0.
"""

import struct
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from chaos.wire.proxy import CALL_SECONDS, ask
from onceloop.errors import ReportedError

ALTER_PARTITION_REASSIGNMENTS = 45
CORRELATION = 1
MOVED_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.2


class NotMovedError(ReportedError):
    """The partition stays where it is, for now."""


def move(bootstrap: str, topic: str, partition: int, broker: int) -> None:
    """Have this broker alone hold the partition and lead it; return once it does. Raises NotMovedError."""
    host, _, port = bootstrap.rpartition(":")
    try:
        error = error_in(ask((host, int(port)), _request(topic, partition, broker)))
    except OSError as refused:
        raise NotMovedError(f"the broker does not answer: {refused}") from refused
    if error:
        raise NotMovedError(f"{topic}[{partition}] cannot move to broker {broker}: error {error}")
    _wait_moved(bootstrap, topic, partition, broker)


def error_in(answer: bytes) -> int:
    """Return the first error code in an answer, of the whole or of its one partition; 0 if there is none."""
    whole, text = struct.unpack_from(">hB", answer, 9)  # behind correlation id, tags and throttle time
    at = 12 + max(text - 1, 0) + 1  # the array of one topic
    name = answer[at]
    at += name + 1 + 4  # its name, the array of one partition, its number
    (one,) = struct.unpack_from(">h", answer, at) if not whole else (0,)
    return int(whole or one)


def _request(topic: str, partition: int, broker: int) -> bytes:
    client, name = b"chaos", topic.encode()
    head = struct.pack(">hhih", ALTER_PARTITION_REASSIGNMENTS, 0, CORRELATION, len(client)) + client + b"\0"
    wanted = struct.pack(">iBiB", partition, 2, broker, 0)
    topics = b"\x02" + struct.pack(">B", len(name) + 1) + name + b"\x02" + wanted + b"\0"
    request = head + struct.pack(">i", round(1000 * CALL_SECONDS)) + topics + b"\0"
    return struct.pack(">i", len(request)) + request


def _wait_moved(bootstrap: str, topic: str, partition: int, broker: int) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + MOVED_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            found = client.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions[partition]
        except (KafkaException, KeyError):
            continue
        if found.leader == broker and found.replicas == [broker]:
            return
        time.sleep(LOOK_SECONDS)
    raise NotMovedError(f"{topic}[{partition}] did not get to broker {broker} in {MOVED_SECONDS_MAX:.0f} s")
