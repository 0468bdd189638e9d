"""Volume events: orders counted per minute of event time, which is when they were placed.

Partials add up: the total of a minute is the sum of all its partials. A total with a higher revision replaces those
with a lower one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class VolumePartial:
    """Orders of one minute from one input partition that no other partial counts.

    The first counts all that arrived in time; each further one of the same minute counts orders that arrived late.
    """

    topic: str
    partition: int
    minute_ms: int
    """The minute's first millisecond since the epoch, UTC."""
    reserved: int
    failed: int
    units: int
    """Units held for the reserved orders."""
    late: int
    """How many of the orders came after the partition had closed the minute: none or all of them."""
    until: int
    """Offset behind the last record that the partition had been read to."""

    def violation(self) -> str:
        """Return what makes this event impossible, naming the field, or an empty text if it may be."""
        return _violation(self, "partition", "reserved", "failed", "units", "late", "until")


@dataclass(frozen=True, slots=True)
class MinuteVolume:
    """All orders of one minute that are known so far."""

    minute_ms: int
    """The minute's first millisecond since the epoch, UTC."""
    orders: int
    reserved: int
    failed: int
    units: int
    """Units held for the reserved orders."""
    late: int
    """How many of the orders came after their partition had closed the minute."""
    revision: int
    """How many partials are in it; 0: no order is known. It rises, not always by one."""

    def violation(self) -> str:
        """Return what makes this event impossible, naming the field, or an empty text if it may be."""
        return _violation(self, "orders", "reserved", "failed", "units", "late", "revision")


def _violation(event: VolumePartial | MinuteVolume, *counts: str) -> str:
    if event.minute_ms % MINUTE_MS:
        return f"minute is none: {event.minute_ms}"
    return next((f"{name} is below zero" for name in counts if getattr(event, name) < 0), "")


def minute_of(time_ms: int) -> int:
    """Return the first millisecond of the minute."""
    return time_ms - time_ms % MINUTE_MS


def minute_name(minute_ms: int) -> str:
    """Return the minute as keys have it: 2026-11-23T14:05:00Z."""
    return datetime.fromtimestamp(minute_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
