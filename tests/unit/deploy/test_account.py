from pathlib import Path

from deploy.local.servers.account import first_barrier


def test_outermost_closed_folder_is_the_barrier(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o700)
    closed.chmod(0o700)
    barrier = first_barrier([inner / "data"])
    assert barrier is not None
    assert barrier in {closed, *closed.parents}


def test_open_path_has_no_barrier() -> None:
    assert first_barrier([Path("/usr/bin")]) is None
