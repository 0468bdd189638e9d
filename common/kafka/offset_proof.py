"""Committed offsets are believed once something else confirms them (docs/adr/0031).

While a broker loads its groups a second time it may answer offsets that are long overtaken. Whoever went on from there
would tell again what is told.
"""

import time
from collections.abc import Callable, Mapping

from common.errors import Busy, FatalError
from common.kafka.records import CommitPoint, Partition

OLD_OFFSETS_SECONDS_MAX = 60.0
"""So long a broker may answer old offsets while it loads them; then somebody set the group back."""

Behind = Callable[[Mapping[Partition, CommitPoint]], Mapping[Partition, str]]
"""Offsets -> those that lie behind what is known to be done, each with both in words."""


class OffsetProof:
    """The offsets that a member was told, until they are proven.

    `done`: what they may not lie before, in words; `cure`: what to do if they stay there.
    """

    def __init__(self, *, done: str, cure: str) -> None:
        self._done, self._cure = done, cure
        self._unproven: Mapping[Partition, CommitPoint] = {}
        self._behind_since: float | None = None

    def demand(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Have these proven before the next record is worked on."""
        self._unproven = stable

    def give(self, behind: Behind) -> None:
        """Ask for what is behind, once after each demand.

        Raises Busy, so that the offsets are read again, and FatalError if they stay behind: then the group was set
        back, and a person says whether that is meant.
        """
        if not self._unproven:
            return
        found = behind(self._unproven)
        if not found:
            self._unproven, self._behind_since = {}, None
            return
        told = ", ".join(f"{at.topic}[{at.number}] {found[at]}" for at in sorted(found))
        now = time.monotonic()
        self._behind_since = self._behind_since or now
        if now - self._behind_since > OLD_OFFSETS_SECONDS_MAX:
            raise FatalError(f"the group's offsets lie before what is {self._done}: {told}", cure=self._cure)
        raise Busy(f"old committed offsets: {told}")
