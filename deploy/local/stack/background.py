"""Run the supervisor in the background, and wait until it is ready or has given up."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.stack import state
from deploy.local.stack.state import Phase
from deploy.local.supervise import logs

_POLL_SECONDS = 0.1
_STOP_SECONDS_MAX = 15.0


def start(home: Home, arguments: Sequence[str], *, show: Callable[[str], None]) -> int:
    """Start `pipeline up` with the arguments and pass its lines to `show`; return 0 once ready, else its exit code.

    An exception while waiting, a Ctrl-C for example, stops it again.
    """
    homes.create(home)
    log = home.log("supervisor")
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # As its log is read.
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )
    try:
        return _wait(home, supervisor, logs.Tail(log, offset=0), show)
    except BaseException:
        supervisor.terminate()
        supervisor.wait(_STOP_SECONDS_MAX)
        raise


def _wait(home: Home, supervisor: subprocess.Popen[bytes], tail: logs.Tail, show: Callable[[str], None]) -> int:
    while True:
        code = supervisor.poll()
        stack = state.read(home)
        for line in tail.new_lines():
            show(line)
        if code is not None:
            return code
        if stack is not None and stack.pid == supervisor.pid and stack.phase is Phase.READY:
            return 0
        time.sleep(_POLL_SECONDS)
