"""The outermost frame of a process: run its body, say in one log line why it ended, map that to an exit code."""

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from common.log import get_logger
from common.memory import give_freed_memory_back
from common.runbook import way_out
from onceloop.errors import Busy, ConfigError, ExitCode, ReportedError

log = get_logger()


def run_process(body: Callable[[], None]) -> NoReturn:
    """Run `body`, then exit at once, without taking the process apart.

    All that must last is durable when `body` returns; librdkafka's destructors, on the other hand, have been seen to
    wait for ever for the thread of a broker that died. Wrong settings are reported on standard error as they stand,
    since the log may not be configured yet. Anything unforeseen keeps its traceback: it is a bug, and a restart takes
    up the same records.
    """
    give_freed_memory_back()
    code = _run(body)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(body: Callable[[], None]) -> ExitCode:
    try:
        body()
    except ConfigError as error:
        sys.stderr.write(f"{error.message}\n{error.cure}\n")
        return error.exit_code
    except ReportedError as error:
        _report_end(error.message, error.exit_code, cure=way_out(error))
        return error.exit_code
    except Busy as busy:
        _report_end(str(busy), ExitCode.UNAVAILABLE)
        return ExitCode.UNAVAILABLE
    except Exception:
        log.exception("process.crashed")
        return ExitCode.SOFTWARE
    return ExitCode.OK


def _report_end(reason: str, exit_code: ExitCode, **more: str) -> None:
    """Log a foreseen end; a traceback would only frighten."""
    log.error("process.ended", reason=reason, exit_code=int(exit_code), **more)
