"""The folder in which the processes of one service share their metrics; opened before prometheus_client is imported.

That library decides where values live when it is first imported: in memory, or in a file per process if a variable
names a folder. So the process that opens the folder imports everything that counts inside the block.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from common.config import set_for_libraries
from onceloop.errors import ConfigError

FILES = "*.db"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, empty; None takes a temporary one, which is removed with the block.

    What an earlier run left would be counted once more. Raises ConfigError if it cannot be written.
    """
    assert "prometheus_client" not in sys.modules, "its values would stay in memory"  # noqa: S101 - a broken programmer
    owner = os.getpid()
    given = folder or Path(mkdtemp(prefix="metrics-"))
    try:
        given.mkdir(parents=True, exist_ok=True)
        for left in given.glob(FILES):
            left.unlink()
    except OSError as error:
        raise ConfigError(
            f"PIPELINE_HTTP_METRICS_DIR: cannot use {given}: {error.strerror}",
            cure="name a folder that this user can write, or none",
        ) from None
    set_for_libraries(_VARIABLE, str(given))
    try:
        yield given
    finally:
        if folder is None and os.getpid() == owner:  # a forked worker's end comes by here too
            shutil.rmtree(given, ignore_errors=True)
