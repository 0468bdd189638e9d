"""Download single artifacts from Maven Central through jgo, into a folder of the caller's, unchecked.

jgo is asked for one named file at a time, never to resolve: what belongs together was settled when the lock was made.
Its own checksum test only warns, so the caller must verify.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import requests
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from common.config import proxy_of
from deploy.local.fetch.artifacts import Artifact
from onceloop.errors import ExitCode, ReportedError

ATTEMPTS_MAX = 4
PAUSE_SECONDS = 1.0
SILENCE_SECONDS_MAX = 10
"""For connecting and for a pause within a download, not for the whole of it."""

Advance = Callable[[int], None]
"""Called with how many bytes came in; a negative count takes back those of a failed attempt."""


class DownloadError(ReportedError):
    """A file could not be had."""

    exit_code = ExitCode.UNAVAILABLE


class Stopped(Exception):  # noqa: N818 - not an error: the wish to end
    """The stop event was set while a file came in."""


def download(artifact: Artifact, folder: Path, *, advance: Advance, stop: Event) -> Path:
    """Return the path of the artifact below `folder`; connection errors are tried again, a bounded number of times.

    Raise `DownloadError` when all attempts failed, `Stopped` soon after `stop` was set.
    """
    last: Exception | None = None
    for attempt in range(ATTEMPTS_MAX):
        tally = _Tally(advance, stop)
        # A folder per attempt: jgo takes whatever lies in its folder for the finished file.
        try:
            return _resolve(artifact, folder / str(attempt), tally)
        except (requests.RequestException, RuntimeError) as error:
            last = error
            tally.take_back()
            time.sleep(PAUSE_SECONDS * attempt)
    proxy = proxy_of(MAVEN_CENTRAL_URL)
    by_way = f" by way of the proxy {proxy}" if proxy else ""
    raise DownloadError(
        f"cannot fetch {artifact.coordinates} from Maven Central{by_way}: {last}",
        cure="check the connection (HTTPS_PROXY, REQUESTS_CA_BUNDLE behind a company proxy) and run the command again;"
        " what has arrived is kept",
    ) from last


class _Tally:
    """Counts one attempt's bytes for the progress bar, and ends the attempt when asked to."""

    def __init__(self, advance: Advance, stop: Event) -> None:
        self._advance, self._stop, self._bytes = advance, stop, 0

    @contextlib.contextmanager
    def open(self, _file_name: str, _size_bytes: int) -> Iterator[Advance]:
        """Be jgo's progress callback."""
        yield self._add

    def take_back(self) -> None:
        """Forget what a failed attempt had counted."""
        self._advance(-self._bytes)

    def _add(self, size_bytes: int) -> None:
        if self._stop.is_set():
            raise Stopped
        self._bytes += size_bytes
        self._advance(size_bytes)


def _resolve(artifact: Artifact, folder: Path, tally: _Tally) -> Path:
    context = MavenContext(
        resolver=PythonResolver(progress_callback=tally.open),
        repo_cache=folder,
        local_repos=[],
        remote_repos={"central": MAVEN_CENTRAL_URL},
        timeout=SILENCE_SECONDS_MAX,
    )
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    return component.artifact(artifact.classifier, artifact.packaging).resolve()
