"""Read all topics once more, in other processes and with other client settings: what was read once was no accident.

`python -m audit.readers.second_reading` takes its addresses from the environment, and on standard input one JSON
document: how to read, and from where to where. It writes one JSON line per partition: topic, number, then an offset and
a digest of key, value and headers for each record.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError

from audit.errors import StoreDownError
from audit.readers.cluster import Cluster
from audit.readers.collector import Headers, Record, digest
from audit.readers.topics import headers_of
from audit.terms import Coordinate, Offsets, Spot
from audit.testimony import Rereading
from common.config import KafkaSettings, load

READING_SECONDS = 120.0
POLL_SECONDS = 0.5
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
OTHER_SETTINGS = {
    "client.id": "second-reading",
    "check.crcs": True,
    "fetch.message.max.bytes": 65_536,
    "fetch.wait.max.ms": 5,
    "fetch.queue.backoff.ms": 10,
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 4096,
}
ROOT = Path(__file__).parents[2]

Census = dict[Coordinate, bytes]
"""A digest of each record, by its coordinate."""


def count_in(census: Census, record: Record) -> None:
    """Put a record into a census."""
    census[record.at] = digest_of(record.key, record.value, record.headers())


def digest_of(key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    """Return what stands for the whole record."""
    return digest(key, value, repr(headers).encode())


def reread(settings: KafkaSettings, *, begins: Offsets, ends: Offsets, first: Census) -> Rereading:
    """Have the topics read twice more, once as committed and once whole; compare with the first reading.

    Raises StoreDownError if a reader does not come to the ends.
    """
    started = [_start(settings, begins, ends, isolation) for isolation in (COMMITTED, UNCOMMITTED)]
    second, whole = [_result(reader) for reader in started]
    first = {at: found for at, found in first.items() if begins[at.spot] <= at.offset < ends[at.spot]}
    differing = tuple(
        (at, _difference(first.get(at), second.get(at)))
        for at in sorted(first.keys() | second.keys())
        if first.get(at) != second.get(at)
    )
    return Rereading(len(first), differing, frozenset(whole.keys() - first.keys()))


def _difference(first: bytes | None, second: bytes | None) -> str:
    if second is None:
        return "a second reader does not see this record"
    return "only a second reader sees this record" if first is None else "a second reader sees another record"


def _start(settings: KafkaSettings, begins: Offsets, ends: Offsets, isolation: str) -> subprocess.Popen[str]:
    reader = subprocess.Popen(
        [sys.executable, "-m", "audit.readers.second_reading"],
        env={"PYTHONPATH": str(ROOT), **_environment(settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    spots = [(*spot, begin, ends[spot]) for spot, begin in begins.items()]
    assert reader.stdin is not None  # noqa: S101 - it was asked for
    reader.stdin.write(json.dumps({"isolation": isolation, "spots": spots}))
    reader.stdin.close()
    reader.stdin = None
    return reader


def _environment(settings: KafkaSettings) -> dict[str, str]:
    """Return what passes the same addresses to another process."""
    return {
        "PIPELINE_NAMESPACE": settings.namespace,
        "PIPELINE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "PIPELINE_KAFKA_OPTIONS": json.dumps(dict(settings.kafka_options)),
        "PIPELINE_KAFKA_CONSUMER_OPTIONS": json.dumps(dict(settings.kafka_consumer_options)),
        "PIPELINE_REGISTRY_URL": settings.registry_url,
    }


def _result(reader: subprocess.Popen[str]) -> Census:
    try:
        output, _ = reader.communicate(timeout=READING_SECONDS + 10)
    except subprocess.TimeoutExpired:
        reader.kill()
        reader.communicate()
    if reader.returncode != 0:
        raise StoreDownError("a second reader did not come to the end of the topics", cure="see: pipeline status")
    return {
        Coordinate(topic, partition, offset): bytes.fromhex(found)
        for topic, partition, records in map(json.loads, output.splitlines())
        for offset, found in records
    }


def main() -> None:
    """Read as standard input says; end with 1 if the time is over."""
    settings = load(KafkaSettings)
    asked: Mapping[str, Any] = json.load(sys.stdin)
    begins = {Spot(topic, partition): begin for topic, partition, begin, _ in asked["spots"]}
    ends = {Spot(topic, partition): end for topic, partition, _, end in asked["spots"]}
    cluster = Cluster(settings)
    consumer = cluster.consumer(begins, {**OTHER_SETTINGS, "isolation.level": asked["isolation"]})
    found: dict[Spot, list[tuple[int, str]]] = {spot: [] for spot in begins}
    complete = _read(consumer, cluster, begins, ends, found)
    consumer.close()
    for spot, records in found.items():
        print(json.dumps((*spot, records), separators=(",", ":")))
    sys.exit(0 if complete else 1)


def _read(
    consumer: Consumer,
    cluster: Cluster,
    begins: Offsets,
    ends: Offsets,
    found: dict[Spot, list[tuple[int, str]]],
) -> bool:
    """Take one record after the other until each partition stands at its end."""
    deadline = time.monotonic() + READING_SECONDS
    behind = {spot for spot, begin in begins.items() if begin < ends[spot]}
    spot_of = partial(_spot_of, cluster, {})
    while behind and time.monotonic() < deadline:
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            continue
        spot, offset, error = spot_of(message), message.offset() or 0, message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local codes are spelt so
                return False
        elif offset < ends[spot]:
            whole = digest_of(message.key(), message.value(), headers_of(message))
            found[spot].append((offset, whole.hex()))
            offset += 1
        if offset >= ends[spot]:
            behind.discard(spot)
    return not behind


def _spot_of(cluster: Cluster, known: dict[tuple[Any, Any], Spot], message: Any) -> Spot:
    where = message.topic(), message.partition()
    if where not in known:
        known[where] = Spot(cluster.short_name(where[0]), where[1])
    return known[where]


if __name__ == "__main__":
    main()
