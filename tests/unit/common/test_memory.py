"""What a thread has freed does not stay in the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
import psutil
from common.memory import give_freed_memory_back

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_size_t,), (ctypes.c_void_p,)


def hold_and_free(blocks, size):
    held = [libc.malloc(size) for _ in range(blocks)]
    for block in held:
        ctypes.memset(block, 1, size)
    for block in held:
        libc.free(block)


def work():
    hold_and_free(1, 24 << 20)  # a large block; the thresholds grow with it
    before = psutil.Process().memory_info().rss
    hold_and_free(256, 64 << 10)
    print((psutil.Process().memory_info().rss - before) >> 20)


{first}
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def megabytes_kept(first: str) -> int:
    program = [sys.executable, "-c", PROGRAM.format(first=first)]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_given_back() -> None:
    assert megabytes_kept("pass") > 12, "the system's own ways have changed: nothing would be proven"
    assert megabytes_kept("give_freed_memory_back()") < 4
