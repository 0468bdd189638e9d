import os
import stat
from pathlib import Path

import pytest

from common.errors import ConfigError
from deploy.local import home as homes
from deploy.local.home import ROLES, HomeInUseError


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


def test_git_ignores_the_folder_wherever_it_lies(tmp_path: Path) -> None:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    assert (home.root / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_second_owner_is_refused_and_told_the_way_out(tmp_path: Path) -> None:
    home = homes.at(tmp_path)
    with homes.owned(home), pytest.raises(HomeInUseError) as refused, homes.owned(home, patience_seconds=0):
        pass
    assert "pipeline down" in refused.value.cure


def test_next_owner_comes_in_when_the_first_has_left(tmp_path: Path) -> None:
    home = homes.at(tmp_path)
    for _ in range(2):
        with homes.owned(home, patience_seconds=0):
            pass


@pytest.mark.parametrize("name", ["a,b", "a:b", "${a}", "a*", "a\nb", os.fsdecode(b"latin-\xfc")])
def test_folder_that_the_servers_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="settings cannot carry"):
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
