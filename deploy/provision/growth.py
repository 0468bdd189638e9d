"""Give topics more partitions while they are written and read; see that every group takes the new ones up.

Records stay where they are, and keys are redistributed over all partitions. So a user's orders may come to another
partition, and for a while two partitions hold some that are not decided yet (docs/adr/0037). The topics that are keyed
by user grow together. Repeating a growth is safe: what stands is left as it is, and what is missing is done.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common.kafka.admin import TAKEN_UP_SECONDS, Admin
from common.topics import ALL_TOPICS, KEYED_BY_USER, Group, Topic
from onceloop.errors import FatalError, ReportedError, UsageError

PARTITIONS_MAX = 1000
PRODUCERS_SECONDS = 15
"""Until then producers may use the former partitions: 10 s until they look again, 5 s for a record on its way."""
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Ranges:
    """When users' orders changed partitions: they keep their order before `until`, and from `since` on, not across."""

    until: datetime
    since: datetime


def named(name: str) -> Topic:
    """Return the topic of the table with this name, if it can grow. Raises UsageError."""
    found = next((topic for topic in ALL_TOPICS if topic.name == name), None)
    if found is None:
        raise UsageError(f"no topic is called {name}", cure="pipeline topics list")
    if found not in KEYED_BY_USER:
        raise UsageError(
            f"{name} has one partition by design, and its records are few",
            cure=f"topics that can grow: {', '.join(topic.name for topic in KEYED_BY_USER)}",
        )
    return found


def grow(admin: Admin, topic: Topic, partitions: int, report: Callable[[str], None]) -> Ranges:
    """Bring this topic, and those that are keyed alike, to so many partitions; return when keys moved.

    Raises ReportedError if one has more already, or if a group with live members does not take the new ones up.
    """
    counts = admin.partitions(KEYED_BY_USER)
    if topic not in counts:
        raise ReportedError(f"{topic.name} does not exist yet", cure="pipeline provision")
    if (most := max(counts.values())) > partitions or partitions > PARTITIONS_MAX:
        raise UsageError(
            f"there are {most} partitions; Kafka takes none away",
            cure=f"choose a number from {most} to {PARTITIONS_MAX}",
        )
    until = datetime.now(tz=UTC)
    for name in bring_in_step(admin, partitions):
        report(f"{name}: {partitions} partitions")
    for group_id, count in admin.write_first_offsets().items():
        report(f"{group_id}: {f'first offset on {count} partitions' if count else 'has its offsets'}")
    for group in dict.fromkeys(group for each in KEYED_BY_USER for group in each.readers):
        report(_await_readers(admin, group))
    return Ranges(until, datetime.now(tz=UTC) + timedelta(seconds=PRODUCERS_SECONDS))


def bring_in_step(admin: Admin, partitions: int = 0) -> tuple[str, ...]:
    """Give the topics that are keyed by user as many partitions as the widest of them; return the names of those grown.

    Those that are written last come first: an order's outcome always finds as many partitions as the order did.
    """
    counts = admin.partitions(KEYED_BY_USER)
    wanted = max(partitions, *counts.values())
    behind = [topic for topic in reversed(KEYED_BY_USER) if counts.get(topic, wanted) < wanted]
    for topic in behind:
        admin.add_partitions({topic: wanted})
    return tuple(topic.name for topic in behind)


def _await_readers(admin: Admin, group: Group) -> str:
    """Wait until each partition is some member's share; return that in words."""
    deadline = time.monotonic() + TAKEN_UP_SECONDS
    while unread := admin.unread(group):
        if time.monotonic() > deadline:
            raise FatalError(
                f"group {group.name} has live members, and none of them reads {len(unread)} partitions",
                cure="restart its members one after the other; accepted orders wait meanwhile, none is lost",
            )
        time.sleep(LOOK_SECONDS)
    return f"{group.name}: {'no member runs' if unread is None else 'every partition is read'}"
