"""A stack's folder for the length of one command, with a guardian for what runs in it: nothing of it is left."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.supervise.guardian import Guardian

ENDINGS = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Throwaway:
    """A home that no other process knows, and the guardian to start processes with."""

    home: Home
    guardian: Guardian


@contextmanager
def throwaway(purpose: str) -> Iterator[Throwaway]:
    """Yield a new folder; at the end of the block its processes are ended and it is removed.

    SIGTERM and SIGHUP end the block as Ctrl-C does. After a SIGKILL the guardian ends the processes; the folder, in the
    system's temporary one, is all that stays.
    """
    with (
        _signals_unwind(),
        tempfile.TemporaryDirectory(prefix=f"pipeline-{purpose}-", ignore_cleanup_errors=True) as folder,
        _guarded() as guardian,
    ):
        home = homes.at(Path(folder))
        homes.create(home)
        yield Throwaway(home, guardian)


@contextmanager
def _guarded() -> Iterator[Guardian]:
    guardian = Guardian()
    try:
        yield guardian
    finally:
        guardian.close()


@contextmanager
def _signals_unwind() -> Iterator[None]:
    def unwind(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    former = {number: signal.signal(number, unwind) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
