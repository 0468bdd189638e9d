"""Event time for a load whose minutes no one waits for: they are over, and each is older than the next."""

import time

AGO_MS = 12 * 3_600_000
STEP_MS = 1_000
OUT_OF_TURN_MS = 30_000
_STRIDE_MS = 7_919


class PastMinutes:
    """A clock that goes on by a second with each order, from half a day ago on, and from load to load.

    The orders come out of turn, by half a minute at most, and always by the same: each minute is open while orders of
    the one before it still come, and some of these are late.
    """

    def __init__(self) -> None:
        self._began_ms = time.time_ns() // 1_000_000 - AGO_MS
        self._orders = 0

    def __call__(self) -> int:
        """Return when the next order is placed, in milliseconds since the epoch."""
        self._orders += 1
        return self._began_ms + STEP_MS * self._orders - _STRIDE_MS * self._orders % OUT_OF_TURN_MS
