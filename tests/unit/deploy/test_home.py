import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.home import ROLES, HomeInUseError
from onceloop.errors import ConfigError


def test_passwords_are_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    files = [home.superuser_secret, home.registry_secret, *(home.role_secrets / role for role in ROLES)]
    first = [homes.read_secret(file) for file in files]
    homes.create(home)
    assert [homes.read_secret(file) for file in files] == first
    assert len(set(first)) == len(files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    former = os.umask(request.param)
    yield request.param
    os.umask(former)


def modes(home: homes.Home) -> dict[str, int]:
    return {path.relative_to(home.root).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in home.root.rglob("*")}


@pytest.mark.usefixtures("umask")
def test_whatever_the_umask_a_stack_is_for_its_user_alone(tmp_path: Path) -> None:
    """`.pipeline/kafka`, `logs` and `schemas` could be read by every user of the machine."""
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    found = modes(home)
    assert {"logs", "schemas", "secrets", "secrets/roles", "tmp"} <= found.keys()
    folders = {name: mode for name, mode in found.items() if (home.root / name).is_dir()}
    assert set(folders.values()) == {0o700}
    assert {mode & 0o077 for name, mode in found.items() if name.startswith("secrets/")} == {0}
    assert stat.S_IMODE(home.root.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


def test_folders_of_an_earlier_release_are_closed_and_the_users_own_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    home = homes.at(tmp_path)
    homes.create(home)
    assert modes(home)["kafka"] == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_git_ignores_the_folder_wherever_it_lies(tmp_path: Path) -> None:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    assert (home.root / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_second_owner_is_refused_and_shown_the_way_out(tmp_path: Path) -> None:
    home = homes.at(tmp_path)
    with homes.owned(home), pytest.raises(HomeInUseError) as refused, homes.owned(home, patience_seconds=0):
        pass
    assert "pipeline down" in refused.value.cure


def test_next_owner_comes_in_when_the_first_has_left(tmp_path: Path) -> None:
    home = homes.at(tmp_path)
    for _ in range(2):
        with homes.owned(home, patience_seconds=0):
            pass


def test_lock_is_for_its_user_alone(tmp_path: Path) -> None:
    """Red before: any user of the machine who could read the folder could hold the lock, and no stack started."""
    former = os.umask(0)
    try:
        with homes.owned(homes.at(tmp_path)):
            assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    finally:
        os.umask(former)


@pytest.mark.parametrize("name", ["a,b", "a:b", "{a", "a}", "${a}", "a*", "a\nb", os.fsdecode(b"latin-\xfc")])
def test_folder_that_the_servers_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="settings cannot hold"):
        homes.at(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["stäck", "sta\u0308ck", "my stack", "a=b", "back\\slash", "стек", "🍵", "mi\u200ckhaham", "a[b]?%20#!"]
)
def test_folder_may_have_any_other_name(tmp_path: Path, name: str) -> None:
    home = homes.at(tmp_path / name)
    homes.create(home)
    assert homes.read_secret(home.superuser_secret)


def test_replaced_file_is_never_seen_half(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    homes.write_atomically(path, "one")
    homes.write_atomically(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert list(tmp_path.iterdir()) == [path]
