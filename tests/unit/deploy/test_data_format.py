"""Data of other versions are brought up to date, or refused and left as they are."""

import json
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local import take_down
from deploy.local.data_format import FORMAT, STEPS, bring_up_to_date
from deploy.local.home import Home
from onceloop.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    return home


def noted(home: Home) -> int:
    return int(json.loads(home.format.read_text())["format"])


def make_data(home: Home, *servers: str) -> None:
    for server in servers:
        home.data(server).mkdir()


def test_new_stack_is_of_todays_form(home: Home) -> None:
    assert bring_up_to_date(home) == ()
    assert noted(home) == FORMAT


def test_data_that_no_version_noted_are_of_the_first_form(home: Home) -> None:
    make_data(home, "controller", "kafka", "postgres")
    ran: list[int] = []
    assert bring_up_to_date(home, steps={1: lambda _home: ran.append(1)}, target=2) == (1,)
    assert (ran, noted(home)) == ([1], 2)


def test_each_missing_step_runs_once_and_in_order(home: Home) -> None:
    make_data(home, "controller", "kafka")
    ran: list[int] = []
    steps = {number: lambda _home, number=number: ran.append(number) for number in (1, 2, 3)}
    home.format.write_text('{"format": 2}')
    assert bring_up_to_date(home, steps=steps, target=4) == (2, 3)
    assert bring_up_to_date(home, steps=steps, target=4) == ()
    assert ran == [2, 3]


def test_step_that_failed_runs_again_and_those_before_it_do_not(home: Home) -> None:
    make_data(home, "controller", "kafka")
    ran: list[str] = []

    def fail_once(_home: Home) -> None:
        ran.append("second")
        if ran.count("second") == 1:
            raise OSError(28, "No space left on device")

    steps = {1: lambda _home: ran.append("first"), 2: fail_once}
    with pytest.raises(OSError, match="No space"):
        bring_up_to_date(home, steps=steps, target=3)
    assert noted(home) == 2
    bring_up_to_date(home, steps=steps, target=3)
    assert (ran, noted(home)) == (["first", "second", "second"], 3)


def test_data_of_a_newer_version_are_refused_and_left_alone(home: Home) -> None:
    home.format.write_text('{"format": 99}')
    with pytest.raises(ConfigError, match="newer version") as refused:
        bring_up_to_date(home)
    assert "the version that wrote them" in refused.value.cure
    assert noted(home) == 99


def test_data_from_before_the_first_release_are_refused_and_left_alone(home: Home) -> None:
    make_data(home, "kafka", "postgres")
    with pytest.raises(ConfigError, match=r"before version 0\.1") as refused:
        bring_up_to_date(home)
    assert "the checkout that wrote them" in refused.value.cure
    assert not home.format.exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "one"}', '{"format": 0}', '{"format": -1}'])
def test_note_that_says_nothing_is_refused(home: Home, text: str) -> None:
    home.format.write_text(text)
    with pytest.raises(ConfigError, match=r"format\.json"):
        bring_up_to_date(home)


def test_there_is_a_step_from_each_form_that_a_release_wrote() -> None:
    assert sorted(STEPS) == list(range(1, FORMAT))


def test_note_goes_with_the_data(home: Home) -> None:
    bring_up_to_date(home)
    take_down.remove_data(home)
    assert not home.root.exists()
