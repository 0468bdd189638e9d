"""What a commit of this product carries beside its offset: the id of the topic that the offset belongs to. Pure.

An offset without it was written by provisioning, by an older version, or by hand; one with another id belongs to a
topic that was recreated since.
"""

import re
from collections.abc import Mapping

from onceloop.records import CommitPoint, Partition

_MARK = re.compile(r"topic-id (\S+)")


def mark(topic_id: str) -> str:
    """Return the text to commit beside an offset of this topic; some 30 bytes of the 4096 that a broker takes."""
    return f"topic-id {topic_id}"


def marked_id(point: CommitPoint) -> str | None:
    """Return the id of the topic that this offset was committed for, None if nothing of ours says so."""
    found = _MARK.fullmatch(point.metadata)
    return found[1] if found else None


def of_other_topics(points: Mapping[Partition, CommitPoint], ids: Mapping[str, str]) -> dict[str, str]:
    """Return the topics, each with the id that is remembered, whose offsets were committed for another topic."""
    return {
        at.topic: found
        for at, point in sorted(points.items())
        if (found := marked_id(point)) is not None and found != ids.get(at.topic)
    }
