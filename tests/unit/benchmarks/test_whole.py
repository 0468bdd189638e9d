"""What is made of answers, arrivals and CPU times; the load itself against a small server."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import http_load, whole
from benchmarks.http_load import Answer, Load
from benchmarks.whole import Latencies, WholeError, WholeTurn, at_rate, idle, latencies, sustained


@dataclass
class Arrived:
    decided: dict[str, float] = field(default_factory=dict)
    notified: dict[str, float] = field(default_factory=dict)


@dataclass
class Stack:
    """Answers after 10 ms, decides after 30, notifies after 50; each order costs 2 ms in one process."""

    port: int = 1
    skus: tuple[str, ...] = ("tea",)
    arrivals: Arrived = field(default_factory=Arrived)
    spent: float = 0.0
    loses: bool = False

    def cpu_seconds(self) -> Mapping[str, float]:
        return {"api": self.spent, "kafka": 7.0}

    def ask(self, load: Load) -> list[Answer]:
        answers = [
            Answer(202, 100.0 + number, 100.01 + number, f"{load.path}-{load.seed}-{number}", None)
            for number in range(load.orders)
        ]
        for answer in answers:
            self.spent += 0.002
            self.arrivals.decided[answer.order_id] = answer.due_at + 0.03
            if not self.loses:
                self.arrivals.notified[answer.order_id] = answer.due_at + 0.05
        return answers

    @contextmanager
    def empty_route(self) -> Iterator[int]:
        yield 2


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(whole, "FOLLOWERS_SECONDS_MAX", 0.0)


def test_spread_is_in_milliseconds_and_names_how_many() -> None:
    assert latencies([0.001] * 98 + [0.5, 0.7]) == Latencies(1.0, 700.0, 700.0, 100)
    assert latencies([]) == Latencies(0.0, 0.0, 0.0, 0)


def test_latencies_count_from_when_a_request_was_due() -> None:
    found = at_rate(Stack(), 10.0, seconds=1.0)

    assert (found.accepted, found.refused) == (10, 0)
    assert (found.answered.p50, found.decided.p50, found.notified.p50) == (10.0, 30.0, 50.0)
    assert found.cpu_ms == {"api": 2.0, "kafka": 0.0}
    assert found.cpu_ms_total == pytest.approx(2.0)


def test_order_whose_customer_is_never_notified_ends_the_measurement() -> None:
    with pytest.raises(WholeError, match="10 customers were not notified"):
        at_rate(Stack(loses=True), 10.0, seconds=1.0)


def test_pipeline_and_empty_route_take_turns() -> None:
    seen: list[WholeTurn] = []
    turns = sustained(Stack(), rounds=2, orders=11, report=seen.append)

    assert turns == seen
    assert [turn.pipeline for turn in turns] == pytest.approx([11 / 10.05] * 2)
    assert [turn.ratio for turn in turns] == pytest.approx([10.01 / 10.05] * 2)


def test_idle_is_per_cent_of_one_core() -> None:
    stack = Stack()
    threading.Timer(0.02, lambda: setattr(stack, "spent", 0.01)).start()
    found = idle(stack, seconds=0.1)

    assert found["kafka"] == 0.0
    assert 5.0 < found["api"] <= 10.0


class _Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: int = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(202, {"order_id": f"order-{self.client_address[1]}-{time.time_ns()}"})

    def do_GET(self) -> None:
        type(self).asked += 1
        self._answer(200, {"decided_at": None if type(self).asked % 2 else "2026-01-01"})

    def _answer(self, status: int, document: Mapping[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_load_writes_down_every_answer_and_follows_some(shop: int, tmp_path: Path, rate: float) -> None:
    file = tmp_path / "answers"
    http_load.main(Load(port=shop, orders=20, rate=rate, connections=4, follow_every=10).text(), str(file))
    answers = http_load.read(file)

    assert [each.status for each in answers] == [202] * 20
    assert len({each.order_id for each in answers}) == 20
    assert all(each.due_at <= each.answered_at for each in answers)
    assert sum(each.decided_at is not None for each in answers) == 2
