"""Give freed memory back to the system, so that a process stays as large as its work, not as its largest moment.

glibc gives each thread an arena and keeps what is free at its end; how much it keeps grows with the largest block that
was ever freed. A backlog behind a broker that was away, or a record of a megabyte, then stays resident in the arenas of
librdkafka's threads for as long as the process lives (docs/adr/0035-freed-memory-is-given-back.md).
"""

import ctypes
import gc

KEPT_BYTES_MAX = 1 << 20
"""What an arena may keep; a block of this size gets pages of its own."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As malloc.h names them. Setting either ends the growth of both."""


def give_freed_memory_back() -> None:
    """Fix glibc's thresholds; do nothing where the C library is another one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES_MAX)


def spare_the_collector() -> None:
    """Let a batch come and go without a walk over all objects.

    Records hold no cycles, so reference counts free them; Python's default of a walk per 700 new objects took a third
    of the worker's time.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
