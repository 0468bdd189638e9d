"""Start one process of the stack, signal it, reap it. Every process leads its own group, and the guardian knows it."""

import os
import pwd
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import psutil

from deploy.local.supervise.guardian import Guardian, lives
from deploy.local.supervise.launch import Launch

_OWN_PREFIXES = (
    *("PIPELINE_KAFKA_", "PIPELINE_POSTGRES_", "PIPELINE_REGISTRY_", "PIPELINE_SCHEMA_"),
    *("PIPELINE_HTTP_", "PIPELINE_HEALTH_", "PIPELINE_SLOT", "PIPELINE_DATABASE", "PG"),
    *("PIPELINE_CONNECT_URL", "PIPELINE_CONNECT_CREDENTIALS"),
    # Java's and its libraries': heaps, agents, class paths and settings are the stack's own.
    *("JAVA_", "JDK_", "_JAVA_", "CLASSPATH", "KAFKA_", "LOG4J_", "QUARKUS_", "SMALLRYE_", "APICURIO_"),
)
"""Variables of the caller's shell that would lead a process to another stack, lend it another's identity, bend it."""
OPEN_FILES_WANTED = 4096
"""Kafka and the registry open their class paths file by file, and a log per partition."""
_UMASK = 0o077
"""What a process of the stack writes is for the stack's user alone."""
_POLL_SECONDS = 0.05
_KILL_SECONDS_MAX = 5.0


class Child:
    """A started process. Its owner polls it, or it stays a zombie."""

    def __init__(self, launch: Launch, guardian: Guardian) -> None:
        """Start it in its own process group, with its output appended to its log."""
        self.launch = launch
        self._guardian = guardian
        self._reaped = False
        with launch.log.open("ab") as log:
            self._popen = subprocess.Popen(
                guardian.enlisting(launch.argv, launch.stop_signal),
                stdin=guardian.pipe,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(os.environ, launch.environment),
                start_new_session=True,
                user=launch.account,
                group=_group_of(launch.account),
                extra_groups=[] if launch.account else None,
                umask=_UMASK,
            )
        self.pid = self._popen.pid
        self.started_at = _start_time(self.pid)

    def poll(self) -> int | None:
        """Return the exit code once the process has ended (negative: the signal that ended it), None before."""
        code = self._popen.poll()
        if code is not None and not self._reaped:
            self._reaped = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # workers of a killed master would keep its port
            self._guardian.strike_off(self.pid)
        return code

    def ask_to_stop(self) -> None:
        """Send the signal of an orderly end; a frozen process is woken to hear it."""
        if self.poll() is None:
            signal_tree(self.pid, signal.SIGCONT)
            self._popen.send_signal(self.launch.stop_signal)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and all below it."""
        if self.poll() is None:
            signal_tree(self.pid, number)

    def kill(self) -> None:
        """SIGKILL the process and all below it, and wait until they are gone."""
        below = _tree(self.pid) if self.poll() is None else []
        self.send(signal.SIGKILL)
        self.wait(_KILL_SECONDS_MAX)
        deadline = time.monotonic() + _KILL_SECONDS_MAX
        while any(lives(each) for each in below) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def wait(self, timeout_seconds: float) -> int | None:
        """Return the exit code, or None when the process outlasts the time."""
        deadline = time.monotonic() + timeout_seconds
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return code


def never() -> bool:
    """Be in no hurry."""
    return False


def stop_all(children: Iterable[Child], *, grace_seconds: float, hurry: Callable[[], bool] = never) -> None:
    """Ask all to stop, wait for them together, kill what outlasts the grace; once `hurry` says so, kill at once."""
    asked = list(children)
    for child in asked:
        child.ask_to_stop()
    deadline = time.monotonic() + grace_seconds
    while any(child.poll() is None for child in asked) and time.monotonic() < deadline and not hurry():
        time.sleep(_POLL_SECONDS)
    for child in asked:
        if child.poll() is None:
            child.kill()


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and all below it, whatever process groups they made (PostgreSQL's do)."""
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all below it, in seconds; what is gone or another user's counts nothing."""
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def raise_open_files() -> int:
    """Raise this process's limit of open files, and so its children's, to what is wanted or may be; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES_WANTED:
        return OPEN_FILES_WANTED
    for limit in (OPEN_FILES_WANTED, hard):  # root may go beyond the hard limit
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            return limit
    return soft


def forget_libpq_variables() -> None:
    """Have no connection of this process bent by PGHOSTADDR, PGSERVICE, PGOPTIONS, PGSSLMODE and their like.

    A URL names host, port, role and database, and libpq takes from the environment whatever it does not name; a service
    that cannot be found even ends the connection. Only for a process that talks to the servers of a local stack.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def child_environment(inherited: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return what a process gets: what the caller has, without the addresses of another stack, and its own."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_OWN_PREFIXES)}
    return {**kept, **own}


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _start_time(pid: int) -> float:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time()
    return 0.0


def _group_of(account: str | None) -> int | None:
    return None if account is None else pwd.getpwnam(account).pw_gid
