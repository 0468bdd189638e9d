"""Explain a start that failed: the log line that says why, and the way out. Pure but for reading the log."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.supervise import logs
from onceloop.errors import ExitCode, ReportedError

CONFIG_LINES_MAX = 8
_LINE_CHARACTERS_MAX = 300


class StartError(ReportedError):
    """A part of the stack did not come up."""

    exit_code = ExitCode.UNAVAILABLE


class PortTakenError(StartError):
    """Another program took its port, after the stack had found it free."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A log line that is known to end a start, and what to do about it."""

    pattern: re.Pattern[str]
    cure: str
    error: type[StartError] = StartError


def _cause(pattern: str, cure: str, error: type[StartError] = StartError) -> Cause:
    return Cause(re.compile(pattern, re.IGNORECASE), cure, error)


CAUSES = (
    _cause(
        r"address already in use|port \d+ is already|could not bind|QuarkusBindException|Connection in use: ",
        "another program took the port meanwhile: start again, and the next free port is taken",
        PortTakenError,
    ),
    _cause(
        r"no space left on device|disk quota exceeded",
        "free some disk space (`pipeline doctor` shows how much is needed), then start again",
    ),
    _cause(
        r"database files are incompatible|incompatible with (this )?(server|version)|unsupported metadata.?version"
        r"|Meta\.properties|cluster\.?id .*doesn't match|InconsistentClusterId",
        "the data is another version's: go on with the checkout that wrote it, or start another stack: --home DIR",
    ),
    _cause(
        r"OutOfMemoryError|could not reserve enough space|insufficient memory|cannot allocate memory"
        r"|could not map anonymous shared memory",
        "free some memory: the whole stack needs 2 GB",
    ),
    _cause(
        r"invalid or corrupt jarfile|ClassNotFoundException|NoClassDefFoundError|ZipException|zip END header",
        "a file of the cache is damaged: delete the folder that `pipeline doctor` names, and start again",
    ),
    _cause(
        r"lock file .* already exists|Failed to acquire lock on file",
        "an earlier server still uses the data: `pipeline down`, then start again",
    ),
    _cause(
        r"permission denied|has wrong ownership|has invalid permissions|AccessDeniedException",
        "the folder belongs to another user: choose another with --home DIR, or start as the user who made it",
    ),
    _cause(
        r"password authentication failed",
        "the password in the stack's secrets folder is not the database's: put the former file back",
    ),
    _cause(
        r"invalid checkpoint record|could not locate a valid checkpoint|CorruptRecordException|invalid page",
        "the data is damaged: copy its folder before anything else, then restore a backup; until then: --home DIR",
    ),
    _cause(
        r"ModuleNotFoundError|No module named",
        "the environment lacks a package: pip install -e '.[local]' (or: make setup)",
    ),
)

_ERROR = re.compile(r"\b(FATAL|PANIC|ERROR|CRITICAL|error|Exception|Error)\b")


def explain(name: str, log: Path, *, since: int, code: int | None, late: str = "") -> StartError:
    """Return the error to report. `since` is where this start's lines begin in the log; `code` None means too slow.

    `late` says in which way, in words that follow the name.
    """
    lines = logs.lines_since(log, since)
    how = late or _describe_end(code)
    if code == ExitCode.CONFIG:
        said = "\n".join(_shorten(line) for line in lines[-CONFIG_LINES_MAX:])
        return StartError(f"{name} refuses its settings:\n{said}", cure=f"correct them, then start again (log: {log})")
    for cause in CAUSES:
        for line in lines:
            if cause.pattern.search(line):
                return cause.error(f"{name} {how}: {_shorten(line)}", cure=f"{cause.cure} (log: {log})")
    line = error_line(lines)
    said = f": {_shorten(line)}" if line else "" if late else ", and said nothing"
    return StartError(f"{name} {how}{said}", cure=f"read on in {log}")


def error_line(lines: Sequence[str]) -> str:
    """Return the first line that speaks of an error, else the last one that is not empty, else nothing."""
    spoken = [line for line in lines if line.strip()]
    return next((line for line in spoken if _ERROR.search(line)), spoken[-1] if spoken else "")


def _describe_end(code: int | None) -> str:
    if code is None:
        return "did not become ready in time"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name} while starting"
    return f"did not start (exit code {code})"


def _shorten(line: str) -> str:
    text = line.strip()
    return text if len(text) <= _LINE_CHARACTERS_MAX else f"{text[:_LINE_CHARACTERS_MAX]}..."
