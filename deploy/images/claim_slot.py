"""Claim a slot that no other container has, then become the worker: `claim_slot inventory python -m inventory_service`.

A slot is a file in a folder that the containers of a host share; the holder of its lock has the slot. The kernel gives
the lock to one process and takes it back when that process is gone, however it went: no two live workers have the same
slot, no claim outlives its worker, and no clock is involved. The lock lives in a descriptor that the worker inherits
and never touches, so nothing stands between Docker and the worker: it is the container's first process.

Only the standard library is imported: this runs before every start.
"""

import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

FOLDER = Path("/var/lib/order-pipeline/slots")
SLOTS_MAX = 64
"""More workers than partitions stand by; more than these are a mistake."""
UNAVAILABLE = 75
"""As everywhere: later it may be better."""
USAGE = "usage: python -m deploy.images.claim_slot SERVICE COMMAND [ARGUMENT ...]\n"


def claim(folder: Path, service: str) -> int | None:
    """Return the lowest slot of the service that was free, and is this process's from now on; None if all are taken.

    Files are never removed: one that another process has just opened would be locked in vain.
    """
    for slot in range(SLOTS_MAX):
        descriptor = os.open(folder / f"{service}-{slot}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            os.set_inheritable(descriptor, True)  # the lock is the open file's: it lives on in the worker
            return slot
    return None


def become(folder: Path, service: str, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, with its slot in PIPELINE_SLOT."""
    slot = claim(folder, service)
    if slot is None:
        sys.stderr.write(f"all {SLOTS_MAX} slots of {service} are taken: scale it down\n")
        sys.exit(UNAVAILABLE)
    os.execvp("env", ["env", f"PIPELINE_SLOT={slot}", *command])  # noqa: S606, S607 - no shell; PATH is the image's


if __name__ == "__main__":
    if len(sys.argv) < 3:  # noqa: PLR2004 - the module, a service, a command
        sys.stderr.write(USAGE)
        sys.exit(2)
    become(FOLDER, sys.argv[1], sys.argv[2:])
