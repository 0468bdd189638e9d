"""Keep what the local stack runs on Java in a cache that all checkouts of a user share.

Only the SHA-256 of `jars.lock` decides whether a file is the right one. A file gets its name by an atomic rename after
its hash was checked, so no process ever meets half of one; a lock makes a second process wait instead of fetching too.
"""

import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

import platformdirs

from deploy.local.fetch.artifacts import Artifact, locked
from onceloop.errors import ConfigError, ExitCode, ReportedError

PARALLEL_DOWNLOADS = 12
"""Most files are small: fetching one is waiting, for two connections each, not for bytes."""
Advance = Callable[[int], None]
OpenProgress = Callable[[int], AbstractContextManager[Advance]]
"""Given the bytes to come, open a progress bar and return what moves it."""


class CorruptError(ReportedError):
    """What came in is not what the lock names."""

    exit_code = ExitCode.UNAVAILABLE


def cached(folder: Path | None = None, *, sets: Iterable[str] = (), servers: bool = True) -> "Jars":
    """Return the cache as it is, for commands that only need to know the paths.

    `sets`: beyond what every stack has; without `servers`, instead of that. Raises ConfigError for a path that Java
    cannot handle: class paths are divided by colons, plugin paths by commas, an agent's jar ends at an equals sign.
    """
    place = folder or default_cache()
    if unfit := sorted(set(":,=") & set(str(place))):
        raise ConfigError(
            f"the path of the server cache contains {' '.join(unfit)}, which Java cannot handle: {place}",
            cure="choose another with XDG_CACHE_HOME",
        )
    return Jars(place, locked() if servers else (), {name: locked(name) for name in sets})


def default_cache() -> Path:
    """Return the user's cache folder; XDG_CACHE_HOME moves it."""
    return platformdirs.user_cache_path("order-pipeline", appauthor=False)


def no_progress(_size_bytes: int) -> AbstractContextManager[Advance]:
    """Show nothing."""
    return nullcontext(lambda _bytes: None)


@dataclass(frozen=True, slots=True)
class Jars:
    """The cache as the lock sees it."""

    folder: Path
    stack: tuple[Artifact, ...]
    """What every stack has."""
    further: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    """The sets that optional parts asked for, by name."""

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Return all of it; what stands in several sets once."""
        return tuple(dict.fromkeys((*self.stack, *(each for files in self.further.values() for each in files))))

    @property
    def class_path(self) -> str:
        """Return Kafka's class path: the stack's jars alone, whatever else lies in the folder."""
        return os.pathsep.join(str(self.path(each)) for each in self.stack if each.is_jar)

    @property
    def registry_folder(self) -> Path:
        """Return the folder of the unpacked registry."""
        return self.path(next(each for each in self.stack if not each.is_jar))

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return where the files of a further set stand."""
        return tuple(self.path(each) for each in self.further[name])

    def path(self, artifact: Artifact) -> Path:
        """Return where the artifact stands: a jar as a file, an archive as the folder it unpacks to."""
        if artifact.is_jar:
            return self.folder / "jars" / artifact.file_name
        return self.folder / f"{artifact.name}-{artifact.version}-{artifact.sha256[:12]}"

    def missing(self) -> tuple[Artifact, ...]:
        """Return what is absent; a jar with another hash is deleted and counts as absent."""
        return tuple(each for each in self.artifacts if not self._stands(each))

    def _stands(self, artifact: Artifact) -> bool:
        path = self.path(artifact)
        if not path.exists():
            return False
        if not artifact.is_jar or _sha256(path) == artifact.sha256:
            return True
        path.unlink(missing_ok=True)
        return False


def ensure(
    *,
    open_progress: OpenProgress = no_progress,
    folder: Path | None = None,
    sets: Iterable[str] = (),
    servers: bool = True,
) -> Jars:
    """Return the cache after fetching what it lacks: under a second when it lacks nothing. Arguments as of `cached`.

    Raise `DownloadError` when a file cannot be had, `CorruptError` when it is not the one that the lock names.
    """
    jars = cached(folder, sets=sets, servers=servers)
    if not jars.missing():
        return jars
    with _alone_in(jars.folder):
        missing = jars.missing()  # again: the process that held the lock may have fetched them
        with open_progress(sum(each.size_bytes for each in missing)) as advance:
            _fetch(jars, missing, advance)
    return jars


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the cache's lock: the system drops it with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jars: Jars, missing: Sequence[Artifact], advance: Advance) -> None:
    """Fetch all, largest first, since the longest download decides the time; the first failure ends the others."""
    incoming = jars.folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)  # left by a process that was killed; we hold the lock
    incoming.mkdir()
    stop = Event()
    by_size = sorted(missing, key=lambda each: -each.size_bytes)
    turn = Lock()

    def one_at_a_time(size_bytes: int) -> None:
        with turn:
            advance(size_bytes)

    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        try:
            for _ in pool.map(lambda each: _fetch_one(jars, each, incoming, one_at_a_time, stop), by_size):
                pass
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    shutil.rmtree(incoming, ignore_errors=True)


def _fetch_one(jars: Jars, artifact: Artifact, incoming: Path, advance: Advance, stop: Event) -> None:
    from deploy.local.fetch.download import download

    with tempfile.TemporaryDirectory(dir=incoming) as folder:
        file = download(artifact, Path(folder), advance=advance, stop=stop)
        if (found := _sha256(file)) != artifact.sha256:
            file.unlink()
            raise CorruptError(
                f"{artifact.coordinates}: SHA-256 is {found}, the lock says {artifact.sha256}; the file was deleted",
                cure="run the command again; if it stays, a proxy alters downloads, or the lock was tampered with",
            )
        target = jars.path(artifact)
        target.parent.mkdir(parents=True, exist_ok=True)
        if artifact.is_jar:
            file.replace(target)
        else:
            _unpack(file, Path(folder) / "unpacked", target)


def _unpack(archive: Path, aside: Path, target: Path) -> None:
    """Unpack aside, then rename: the folder is there whole, or not at all. The archive is not kept."""
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extractall(aside, filter="data")
        else:  # Python before 3.11.4, Debian 12's for one; its content is known by its hash
            opened.extractall(aside)  # noqa: S202
    aside.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
