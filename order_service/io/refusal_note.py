"""Why the broker would refuse every order now, known to all processes of the API: they answer probes by turns."""

import time
from contextlib import suppress
from pathlib import Path

from onceloop.kafka.errors import Refusal

REFUSED_SECONDS = 30.0
"""How long a refusal counts; then the next order finds out."""


class RefusalNote:
    """A file in a folder that the processes share; it holds the refusal's name and when it came (monotonic seconds)."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "refusal"

    def write(self, refusal: Refusal) -> None:
        """Note that the broker refuses all orders for this reason."""
        with suppress(OSError):  # a full disk may cost a probe its truth, never an order its answer
            self._file.write_text(f"{refusal.name} {time.monotonic()}", encoding="utf-8")

    def clear(self) -> None:
        """Note that the broker accepts orders."""
        with suppress(OSError):  # mostly there is none; else as above
            self._file.unlink()

    def standing(self) -> Refusal | None:
        """Return the refusal that counts now, if there is one."""
        with suppress(OSError, ValueError, KeyError):  # the last two: it is being written in this moment
            name, at = self._file.read_text(encoding="utf-8").split()
            if time.monotonic() < float(at) + REFUSED_SECONDS:
                return Refusal[name]
        return None
