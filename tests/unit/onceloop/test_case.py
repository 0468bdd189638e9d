"""How a case of `onceloop.testing` names its records, and which servers its trials may use."""

import random
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from onceloop.testing.case import Case, CaseError, Item, items
from onceloop.testing.servers import BOOTSTRAP, DSN, Servers, UnfitServersError, check, found


def case(records: Any) -> Case:
    return Case(app="shop:app", records=records, effects="SELECT 1")


MANY = [("k", "v")] * 20


def test_pairs_go_to_the_only_input_as_bytes() -> None:
    assert items([("k", "v"), (None, b"\xff")], ["payments"]) == [
        Item("payments", b"k", b"v"),
        Item("payments", None, b"\xff"),
    ]


def test_pairs_without_a_topic_need_a_single_input() -> None:
    with pytest.raises(CaseError, match="records: the app has 2 inputs; give the records per topic"):
        case(MANY).items(0, ["payments", "refunds"])


def test_records_per_topic_name_inputs_alone() -> None:
    assert items({"refunds": [("k", "v")]}, ["payments", "refunds"]) == [Item("refunds", b"k", b"v")]
    with pytest.raises(CaseError, match="refund is no input of the app, which has payments"):
        case({"refund": MANY}).items(0, ["payments"])


def test_too_few_records_are_refused() -> None:
    with pytest.raises(CaseError, match="19 are too few for several batches; 20 at least"):
        case(MANY[1:]).items(0, ["payments"])


def test_generator_serves_every_trial() -> None:
    made = case(pair for pair in MANY)
    assert made.items(0, ["payments"]) == made.items(0, ["payments"])


def test_seed_repeats_made_records() -> None:
    made = case(lambda chance: [(str(chance.random()), "v") for _ in range(20)])
    assert made.items(7, ["payments"]) == made.items(7, ["payments"])
    assert made.items(7, ["payments"]) != made.items(8, ["payments"])
    assert random.Random(7).random() == float(made.items(7, ["payments"])[0].key or b"")


def test_named_servers_come_from_options_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONCELOOP_BOOTSTRAP", "ONCELOOP_DSN"):
        monkeypatch.delenv(name, raising=False)
    assert found("", "") is None
    monkeypatch.setenv("ONCELOOP_BOOTSTRAP", "127.0.0.1:1")
    assert found("", "") == Servers("127.0.0.1:1", DSN)
    assert found("127.0.0.1:2", "postgresql://a@b/c") == Servers("127.0.0.1:2", "postgresql://a@b/c")
    monkeypatch.delenv("ONCELOOP_BOOTSTRAP")
    assert found("", "postgresql://a@b/c") == Servers(BOOTSTRAP, "postgresql://a@b/c")


@pytest.fixture
def listening() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_servers_on_loopback_that_answer_will_do(listening: int) -> None:
    check(Servers(f"127.0.0.1:{listening}", f"postgresql://me@localhost:{listening}/db"), anywhere=False)


@pytest.mark.parametrize(
    "servers",
    [Servers("kafka.example:9092", DSN), Servers("127.0.0.1:{port}", "postgresql://me@db.example/orders")],
)
def test_other_machines_are_refused_unless_that_is_meant(listening: int, servers: Servers) -> None:
    there = Servers(servers.bootstrap.format(port=listening), servers.dsn)
    with pytest.raises(UnfitServersError, match=r"example is another machine.*--onceloop-anywhere"):
        check(there, anywhere=False)


def test_silence_comes_with_the_options_that_name_another_server() -> None:
    with pytest.raises(UnfitServersError, match=r"nothing answers at 127\.0\.0\.1:1 .*--onceloop-bootstrap HOST:PORT"):
        check(Servers("127.0.0.1:1", DSN), anywhere=False)


def test_dsn_must_be_a_url(listening: int) -> None:
    with pytest.raises(UnfitServersError, match="a URL like postgresql://"):
        check(Servers(f"127.0.0.1:{listening}", "dbname=orders"), anywhere=False)
