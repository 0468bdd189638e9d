"""Committed offsets are believed once something else confirms them (docs/adr/0031).

While a broker loads its groups a second time it may answer offsets that are long out of date. A member that went on
from there would publish again what is published.
"""

import time
from collections.abc import Callable, Mapping

from onceloop.errors import Busy, FatalError
from onceloop.records import CommitPoint, Partition

OLD_OFFSETS_SECONDS_MAX = 60.0
"""How long a broker may answer old offsets while it loads them; those still old after that were set back."""

Behind = Callable[[Mapping[Partition, CommitPoint]], Mapping[Partition, str]]
"""Offsets -> those that lie behind what is known to be done, each with both in words."""


class Doubt:
    """What prevents going on, and since when: for a minute it may pass by itself, then a person is needed.

    `passing` and `staying` begin the sentence that names the partitions; `cure`: what to do about those that stay.
    """

    def __init__(self, *, passing: str, staying: str, cure: str) -> None:
        self._passing, self._staying, self._cure = passing, staying, cure
        self._since: float | None = None

    def weigh(self, found: Mapping[Partition, str]) -> None:
        """Return if nothing was found. Raises Busy, so that it is looked at again, and FatalError if it stays."""
        if not found:
            self._since = None
            return
        named = ", ".join(f"{at.topic}[{at.number}] {found[at]}" for at in sorted(found))
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > OLD_OFFSETS_SECONDS_MAX:
            raise FatalError(f"{self._staying}: {named}", cure=self._cure)
        raise Busy(f"{self._passing}: {named}")


class OffsetProof:
    """The offsets that a member was given, until they are proven.

    `done`: what they may not lie before, in words; `cure`: what to do if they stay there.
    """

    def __init__(self, *, done: str, cure: str) -> None:
        self._doubt = old_offsets(done=done, cure=cure)
        self._unproven: Mapping[Partition, CommitPoint] = {}

    def demand(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Have these proven before the next record is worked on."""
        self._unproven = stable

    def give(self, behind: Behind) -> None:
        """Ask for what is behind, once after each demand.

        Raises Busy, so that the offsets are read again, and FatalError if they stay behind: then the group was set
        back, and a person says whether that is meant.
        """
        if self._unproven:
            self._doubt.weigh(behind(self._unproven))
            self._unproven = {}


def old_offsets(*, done: str, cure: str) -> Doubt:
    """Return the doubt about offsets that lie before what is done."""
    return Doubt(passing="old committed offsets", staying=f"the group's offsets lie before what is {done}", cure=cure)
