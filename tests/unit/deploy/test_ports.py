import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.stack import ports
from deploy.local.stack.ports import Claims, Moved, assign, is_free


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = homes.at(tmp_path / "stack")
    homes.create(place)
    return place


@pytest.fixture
def claims() -> Iterator[Claims]:
    with Claims() as held:
        yield held


@pytest.fixture
def busy() -> Iterator[int]:
    """A port on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch, busy: int) -> dict[str, int]:
    """The API's default is busy, the others' lie beside those that stacks and other runs of the tests take."""
    with Claims() as looking:
        first = next(port for port in random.sample(range(14_000, 20_000), 1000) if looking.claim(port))
    table = {"api": busy, "kafka": first, "controller": first + 100, "health": first + 200}
    monkeypatch.setattr(ports, "defaults", lambda: table)
    return table


def test_default_is_given_when_it_is_free(home: Home, claims: Claims, defaults: dict[str, int]) -> None:
    assert assign(home, ["kafka"], claims) == ({"kafka": defaults["kafka"]}, ())


def test_busy_default_is_replaced_by_the_next_free_port_and_named(home: Home, claims: Claims, busy: int) -> None:
    given, moved = assign(home, ["api"], claims)
    assert given["api"] > busy
    assert is_free(given["api"])
    assert moved == (Moved("api", busy, given["api"], as_before=False),)


def test_stack_keeps_its_ports_over_restarts(home: Home, claims: Claims, busy: int) -> None:
    first, _ = assign(home, ["api", "kafka"], claims)
    claims.release()
    again, moved = assign(home, ["api", "kafka"], claims)
    assert again == first
    assert moved == (Moved("api", busy, first["api"], as_before=True),)


def test_two_stacks_that_start_at_once_get_different_ports(tmp_path: Path, home: Home, claims: Claims) -> None:
    """Nothing listens yet when the second one looks: only the claim keeps them apart."""
    other_home = homes.at(tmp_path / "other")
    homes.create(other_home)
    ours, _ = assign(home, ["kafka"], claims)
    with Claims() as other_claims:
        theirs, _ = assign(other_home, ["kafka"], other_claims)
    assert ours["kafka"] != theirs["kafka"]


def test_claim_holds_against_another_user_of_the_machine(
    tmp_path: Path, claims: Claims, defaults: dict[str, int]
) -> None:
    """The lock files lay in each user's own cache: two users, or two caches, began with the same ports."""
    port = defaults["kafka"]
    assert claims.claim(port)
    asked = f"from deploy.local.stack.ports import Claims; print(Claims().claim({port}))"
    other = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", asked], env=other, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_claim_ends_with_its_release(claims: Claims, defaults: dict[str, int]) -> None:
    port = defaults["kafka"]
    assert claims.claim(port)
    assert not Claims().claim(port)
    claims.release()
    assert claims.claim(port)


def test_server_listens_on_the_port_that_was_claimed_for_it(claims: Claims, defaults: dict[str, int]) -> None:
    assert claims.claim(defaults["kafka"])
    with socket.create_server(("127.0.0.1", defaults["kafka"])):
        assert not is_free(defaults["kafka"])


def test_every_worker_gets_a_health_port_of_its_own(home: Home, claims: Claims) -> None:
    given, moved = assign(home, ["health.inventory-0", "health.inventory-1"], claims)
    assert len(set(given.values())) == 2
    assert moved == ()


def test_port_that_moved_is_not_reported_when_only_the_stack_uses_it(
    home: Home, claims: Claims, defaults: dict[str, int]
) -> None:
    claims.claim(defaults["controller"])
    _, moved = assign(home, ["controller"], claims)
    assert moved == ()


def test_port_with_lingering_connections_counts_as_free() -> None:
    """A server that was just stopped leaves connections behind; its successor must get the port all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            client.recv(1)
    assert is_free(port)
