import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local import ports
from deploy.local.home import Home
from deploy.local.ports import Claims, Moved, assign, is_free


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = homes.at(tmp_path / "stack")
    homes.create(place)
    return place


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    held = Claims(tmp_path / "claims")
    yield held
    held.release()


@pytest.fixture
def busy() -> Iterator[int]:
    """A port on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch, busy: int) -> dict[str, int]:
    """The API's default is busy, the others' lie beside those that stacks and other tests take."""
    table = {"api": busy, "kafka": 14_092, "controller": 14_093, "health": 14_095}
    monkeypatch.setattr(ports, "defaults", lambda: table)
    return table


def test_default_is_given_when_it_is_free(home: Home, claims: Claims) -> None:
    assert assign(home, ["kafka"], claims) == ({"kafka": 14_092}, ())


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
    other_home, other_claims = homes.at(tmp_path / "other"), Claims(tmp_path / "claims")
    homes.create(other_home)
    ours, _ = assign(home, ["kafka"], claims)
    theirs, _ = assign(other_home, ["kafka"], other_claims)
    other_claims.release()
    assert ours["kafka"] != theirs["kafka"]


def test_claim_ends_with_its_release(tmp_path: Path, claims: Claims) -> None:
    assert claims.claim(14_099)
    assert not Claims(tmp_path / "claims").claim(14_099)
    claims.release()
    assert claims.claim(14_099)


def test_every_worker_gets_a_health_port_of_its_own(home: Home, claims: Claims) -> None:
    given, moved = assign(home, ["health.inventory-0", "health.inventory-1"], claims)
    assert len(set(given.values())) == 2
    assert moved == ()


def test_port_that_moved_is_not_told_when_only_the_stack_uses_it(home: Home, claims: Claims) -> None:
    claims.claim(14_093)
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
