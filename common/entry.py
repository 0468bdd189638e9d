"""The outermost frame of a process: run its body, say in one log line why it ended, map that to an exit code."""

import sys
from collections.abc import Callable
from typing import NoReturn

from common.errors import Busy, ConfigError, ExitCode, PipelineError
from common.log import get_logger

log = get_logger()


def run_process(body: Callable[[], None]) -> NoReturn:
    """Run `body`, then exit.

    Settings are told on standard error as they stand, since the log may not be configured yet. Anything unforeseen
    keeps its traceback: it is a bug, and a restart takes up the same records.
    """
    try:
        body()
    except ConfigError as error:
        sys.stderr.write(f"{error.message}\n{error.cure}\n")
        sys.exit(error.exit_code)
    except PipelineError as error:
        _tell_end(error.message, error.exit_code, cure=error.cure)
        sys.exit(error.exit_code)
    except Busy as busy:
        _tell_end(str(busy), ExitCode.UNAVAILABLE)
        sys.exit(ExitCode.UNAVAILABLE)
    except Exception:
        log.exception("process.crashed")
        sys.exit(ExitCode.SOFTWARE)
    sys.exit(ExitCode.OK)


def _tell_end(reason: str, exit_code: ExitCode, **more: str) -> None:
    """Log a foreseen end; a traceback would only frighten."""
    log.error("process.ended", reason=reason, exit_code=int(exit_code), **more)
