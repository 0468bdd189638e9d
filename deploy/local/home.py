"""Lay out the one folder in which a stack keeps all it has: data, logs, secrets, ports, state."""

import contextlib
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from onceloop.errors import ConfigError, ExitCode, ReportedError

DEFAULT_HOME = Path(".pipeline")
ROLES = ("migrator", "order_rw", "inventory_rw", "notification_rw", "connect_rw", "stock_admin", "reader", "checker")
"""Database roles that get a password file here; provisioning creates them."""

_PRIVATE, _PASSABLE = 0o700, 0o711
_PASSWORD_BYTES = 24
_UNNAMEABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, bytes that are no UTF-8, line separators."""
_LOCK_POLL_SECONDS = 0.1


class HomeInUseError(ReportedError):
    """Another supervisor runs on this folder."""

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, home: "Home") -> None:
        super().__init__(
            f"a stack already runs in {home.root}",
            cure="see it with `pipeline status`, stop it with `pipeline down`, or start another: --home DIR",
        )


class NoStackError(ConfigError):
    """No stack was ever started on this folder."""

    def __init__(self, home: "Home") -> None:
        super().__init__(
            f"no stack in {home.root}", cure="start one: pipeline up, or name its folder: --home DIR or PIPELINE_HOME"
        )


class NotRunningError(ReportedError):
    """There is a stack, but it, or a process of it, does not run now."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one stack. `root` is absolute."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """The stack's own passwords; readable by its user alone."""
        return self.root / "secrets"

    @property
    def role_secrets(self) -> Path:
        """One password file per database role of the pipeline."""
        return self.secrets / "roles"

    @property
    def superuser_secret(self) -> Path:
        """The password of PostgreSQL's superuser."""
        return self.secrets / "postgres"

    @property
    def registry_secret(self) -> Path:
        """The password of the registry's own database role."""
        return self.secrets / "registry"

    @property
    def schemas(self) -> Path:
        """What the registry confirmed, for a service that starts while it is away; goes with the registry's data."""
        return self.root / "schemas"

    @property
    def ports(self) -> Path:
        """The ports this stack took, to take them again."""
        return self.root / "ports.json"

    @property
    def state(self) -> Path:
        """What runs now, for the commands in other terminals."""
        return self.root / "state.json"

    @property
    def format(self) -> Path:
        """In which form the data are."""
        return self.root / "format.json"

    @property
    def memory(self) -> Path:
        """What incremental verifications remember of the data."""
        return self.root / "verify.sqlite"

    def log(self, process: str) -> Path:
        """Return the log file of a process, for example `inventory-0`."""
        return self.logs / f"{process}.log"

    def scratch(self, server: str) -> Path:
        """Return the folder for what a server unpacks while it runs."""
        return self.root / "tmp" / server

    def data(self, server: str) -> Path:
        """Return the data folder of a server."""
        return self.root / server


def at(root: Path) -> Home:
    """Return the home at `root`, which need not exist; refuse a path that the servers cannot live with."""
    home = Home(root.expanduser().absolute())
    path = str(home.root)
    if unfit := sorted({sign for sign in path if sign in ",:{}*" or category(sign) in _UNNAMEABLE}):
        raise ConfigError(
            f"the path of the stack's folder contains {''.join(unfit)!a}, which the servers' settings cannot hold:"
            f" {path!a}",
            cure="choose another with --home DIR or PIPELINE_HOME",
        )
    return home


def create(home: Home) -> None:
    """Make the folders, for their user alone, and whatever passwords are missing; keep what is there.

    A folder that was there before we came keeps its mode. One that root makes lets others pass, since PostgreSQL
    refuses to run as root; nothing inside of it does.
    """
    if not home.root.is_dir():
        home.root.mkdir(parents=True, exist_ok=True)
        home.root.chmod(_PASSABLE if os.geteuid() == 0 else _PRIVATE)
    ours = (home.logs, home.schemas, home.secrets, home.role_secrets, home.scratch("kafka").parent)
    for folder in ours:
        folder.mkdir(exist_ok=True)
    servers = (home.data(name) for name in ("controller", "kafka", "connect", "prometheus"))  # these make their own
    for folder in (*ours, *(each for each in servers if each.is_dir())):
        folder.chmod(_PRIVATE)  # apart: the umask has no say, and an earlier release left them open
    (home.root / ".gitignore").write_text("*\n", encoding="utf-8")
    for path in (home.superuser_secret, home.registry_secret, *(home.role_secrets / role for role in ROLES)):
        if not path.exists():
            write_atomically(path, secrets.token_urlsafe(_PASSWORD_BYTES) + "\n")


def read_secret(path: Path) -> str:
    """Return a password without the file's trailing newline."""
    return path.read_text(encoding="utf-8").rstrip("\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner alone; a reader sees the old text or the new."""
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(aside).replace(path)


@contextlib.contextmanager
def owned(home: Home, *, patience_seconds: float = 15.0) -> Iterator[int]:
    """Own the folder: yield the descriptor of its lock, which a child process may share.

    The guardian shares it, so that a new start waits until the leftovers of a killed supervisor are gone.
    Raise `HomeInUseError` when the owner does not leave in time.
    """
    with (home.root / "lock").open("w", encoding="utf-8") as lock:
        with contextlib.suppress(PermissionError):  # another user made it
            os.fchmod(lock.fileno(), 0o600)  # or another user could hold it
        deadline = time.monotonic() + patience_seconds
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                raise HomeInUseError(home)
            time.sleep(_LOCK_POLL_SECONDS)
        yield lock.fileno()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
