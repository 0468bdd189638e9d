import hashlib
import io
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
import requests

from deploy.local.fetch import download, jars
from deploy.local.fetch.artifacts import STACK, Artifact
from deploy.local.fetch.jars import Advance, CorruptError
from onceloop.errors import ConfigError

CONTENT = b"a jar"


def make_artifact(name: str, content: bytes = CONTENT, *, packaging: str = "jar") -> Artifact:
    sha256 = hashlib.sha256(content).hexdigest()
    return Artifact("org.example", name, "1", "", packaging, sha256, len(content))


def make_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("lib/inside.txt")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    return buffer.getvalue()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What Maven Central has, by artifact name; each fetch is counted in `<name>.times`."""
    central: dict[str, bytes] = {}

    def give(artifact: Artifact, folder: Path, *, advance: Advance, stop: Event) -> Path:
        if stop.is_set():
            raise download.Stopped
        central[f"{artifact.name}.times"] = central.get(f"{artifact.name}.times", b"") + b"x"
        if artifact.name not in central:
            raise download.DownloadError(f"cannot fetch {artifact.name}")
        path = folder / artifact.file_name
        path.write_bytes(central[artifact.name])
        advance(artifact.size_bytes)
        return path

    monkeypatch.setattr(download, "download", give)
    return central


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*artifacts: Artifact) -> None:
        monkeypatch.setattr(jars, "locked", lambda name=STACK: artifacts if name == STACK else (make_artifact(name),))

    return use


def test_missing_jars_are_fetched_once(tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]) -> None:
    lock(make_artifact("one"), make_artifact("two"))
    fetched |= {"one": CONTENT, "two": CONTENT}
    for _ in range(2):
        cache = jars.ensure(folder=tmp_path)
    assert cache.missing() == ()
    assert cache.class_path.split(":") == [str(tmp_path / "jars" / f"{name}-1.jar") for name in ("one", "two")]
    assert fetched["one.times"] == b"x"


def test_file_with_another_hash_is_deleted_and_named(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    lock(make_artifact("evil"))
    fetched["evil"] = b"something else"
    with pytest.raises(CorruptError, match=r"org\.example:evil:1: .*deleted"):
        jars.ensure(folder=tmp_path)
    assert not list(tmp_path.rglob("*.jar"))


def test_jar_that_was_altered_in_the_cache_is_fetched_again(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    lock(make_artifact("one"))
    fetched["one"] = CONTENT
    jar = jars.ensure(folder=tmp_path).path(make_artifact("one"))
    jar.write_bytes(b"altered")
    jars.ensure(folder=tmp_path)
    assert jar.read_bytes() == CONTENT


def test_what_has_arrived_is_kept_when_another_file_cannot_be_had(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    large, absent = make_artifact("large", b"x" * 100), make_artifact("absent")
    lock(large, absent)
    fetched["large"] = b"x" * 100
    with pytest.raises(download.DownloadError):
        jars.ensure(folder=tmp_path)
    assert jars.cached(tmp_path).missing() == (absent,)


def test_archive_is_unpacked_whole_and_not_kept(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    content = make_archive()
    lock(make_artifact("registry", content, packaging="tar.gz"))
    fetched["registry"] = content
    folder = jars.ensure(folder=tmp_path).registry_folder
    assert (folder / "lib" / "inside.txt").read_bytes() == CONTENT
    assert not list(tmp_path.rglob("*.tar.gz"))


def test_two_that_fetch_at_the_same_time_fetch_each_file_once(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    names = [f"jar{number}" for number in range(8)]
    lock(*(make_artifact(name) for name in names))
    fetched |= dict.fromkeys(names, CONTENT)
    both = [threading.Thread(target=jars.ensure, kwargs={"folder": tmp_path}) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert jars.cached(tmp_path).missing() == ()
    assert {fetched[f"{name}.times"] for name in names} == {b"x"}


def test_small_files_come_while_the_large_ones_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: Callable[..., None]
) -> None:
    """Largest first, four at a time: the last 5 MB, eighty files, took 45 s of waiting for one after the other."""
    large = [make_artifact(f"large{number}", b"x" * 100) for number in range(6)]
    small = [make_artifact(f"small{number}") for number in range(20)]
    lock(*large, *small)
    left = threading.Semaphore(0)

    def give(artifact: Artifact, folder: Path, *, advance: Advance, stop: Event) -> Path:
        path = folder / artifact.file_name
        path.write_bytes(b"x" * 100 if artifact in large else CONTENT)
        if artifact in small:
            left.release()
        elif not stop.is_set():
            for _ in range(3):
                assert left.acquire(timeout=5), "no small file comes beside the large ones"
        advance(artifact.size_bytes)
        return path

    monkeypatch.setattr(download, "download", give)
    assert jars.ensure(folder=tmp_path).missing() == ()


def test_progress_is_passed_every_byte(tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]) -> None:
    from contextlib import nullcontext

    lock(make_artifact("one"), make_artifact("two"))
    fetched |= {"one": CONTENT, "two": CONTENT}
    counted: list[int] = []
    announced: list[int] = []

    def open_progress(size_bytes: int) -> nullcontext[Advance]:
        announced.append(size_bytes)
        return nullcontext(counted.append)

    jars.ensure(folder=tmp_path, open_progress=open_progress)
    assert announced == [2 * len(CONTENT)]
    assert sum(counted) == 2 * len(CONTENT)


def test_set_that_was_not_asked_for_is_not_fetched(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    lock(make_artifact("one"))
    fetched |= {"one": CONTENT, "extra": CONTENT}
    jars.ensure(folder=tmp_path)
    assert "extra.times" not in fetched
    cache = jars.ensure(folder=tmp_path, sets=["extra"])
    assert cache.paths("extra") == (tmp_path / "jars" / "extra-1.jar",)
    assert fetched["one.times"] == fetched["extra.times"] == b"x"


def test_jars_of_further_sets_stay_off_the_brokers_class_path(
    tmp_path: Path, fetched: dict[str, bytes], lock: Callable[..., None]
) -> None:
    lock(make_artifact("one"))
    fetched |= {"one": CONTENT, "extra": CONTENT}
    assert jars.ensure(folder=tmp_path, sets=["extra"]).class_path == str(tmp_path / "jars" / "one-1.jar")


def test_proxy_that_stands_between_us_and_the_jars_is_named__without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise requests.exceptions.ProxyError("cannot connect to proxy")

    monkeypatch.setattr(download, "_resolve", fail)
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:c4nary@proxy.example:3128")
    with pytest.raises(download.DownloadError, match=r"by way of the proxy http://proxy\.example:3128") as failed:
        download.download(make_artifact("kafka"), tmp_path, advance=lambda _bytes: None, stop=Event())
    assert "c4nary" not in failed.value.message


@pytest.mark.parametrize("name", ["a:b", "a,b", "a=b"])
def test_cache_whose_path_java_cannot_carry_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Java cannot handle") as refused:
        jars.cached(tmp_path / name)
    assert "XDG_CACHE_HOME" in refused.value.cure
