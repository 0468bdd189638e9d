"""Distinguish a slow start from a stuck one by what the process leaves behind: its log, its CPU time. Pure.

An old or a busy machine needs minutes for what takes seconds elsewhere; a process that writes nothing and computes
nothing needs no more of them.
"""

from dataclasses import dataclass, field

SILENT_SECONDS_MAX = 90.0
"""Without a sign of progress for so long, a start is given up."""
SECONDS_MAX = 900.0
"""And in any case after so long: a process that complains for ever never gets ready."""
REPORT_SECONDS = 20.0
"""After that it is reported what the start waits for, and again every 20 s."""
_CPU_SECONDS = 2.0
"""Less than that in 90 s is the idling of a server that waits; half of what one gets of two cores at load 40."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of a process at a time: bytes in its log, CPU seconds of it and all below it."""

    at: float
    log_bytes: int
    cpu_seconds: float


@dataclass(slots=True)
class Progress:
    """One start, from `began` on."""

    began: float
    _seen: Look | None = field(default=None)
    _moved_at: float | None = field(default=None)
    _sign: str = field(default="no sign of progress yet")

    def take(self, look: Look) -> None:
        """Compare with what was seen when something last moved."""
        seen = self._seen
        if seen is None:
            self._seen = look
            return
        if look.log_bytes != seen.log_bytes:
            self._sign = "its log is growing"
        elif look.cpu_seconds - seen.cpu_seconds >= _CPU_SECONDS:
            self._sign = "it is using the CPU"
        else:
            return
        self._seen, self._moved_at = look, look.at

    def silent_seconds(self, now: float) -> float:
        """Return for how long nothing has moved."""
        return now - (self.began if self._moved_at is None else self._moved_at)

    def complaint(self, now: float) -> str:
        """Return why the start is to be given up, or an empty text."""
        if now - self.began > SECONDS_MAX:
            return f"is not ready after {SECONDS_MAX / 60:.0f} minutes"
        if (silent := self.silent_seconds(now)) > SILENT_SECONDS_MAX:
            return f"did not become ready: for {silent:.0f} s it logged nothing and used no CPU"
        return ""

    def report(self, now: float) -> str:
        """Return what is waited for, in words that change as seldom as they are worth a line; empty at first."""
        steps = int((now - self.began) / REPORT_SECONDS)
        if not steps:
            return ""
        silent = self.silent_seconds(now) > REPORT_SECONDS
        sign = "no recent progress" if silent and self._moved_at is not None else self._sign
        return f"starting for {steps * REPORT_SECONDS:.0f} s: {sign}"
