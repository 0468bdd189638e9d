"""Health over HTTP: live while the loop moves, ready while the worker takes records."""

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import Event
from types import SimpleNamespace

import pytest

from common import metrics
from common.config import HealthSettings
from common.telemetry import serving_probes
from onceloop import health
from onceloop.errors import ExitCode, FatalError
from onceloop.health import LIVE_WITHIN_SECONDS, Health, serve
from onceloop.probe_server import Page, listen
from onceloop.telemetry import SILENT


@pytest.fixture
def state() -> Health:
    return Health()


class Made:
    """What makes the page of metrics; a test puts its own in."""

    def __init__(self) -> None:
        self.page: Callable[[], bytes] = lambda: b"one 1.0\n"

    def __call__(self) -> Page:
        return Page(200, self.page())


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def port(state: Health, made: Made) -> Iterator[int]:
    with serve(state, listen("127.0.0.1", 0), metrics_page=made) as port:
        yield port


def get(port: int, path: str, *, method: str = "GET") -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_health_is_served_at_an_address_of_ipv6_too(state: Health) -> None:
    """It was "address family not supported", whatever the address."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with (
        serve(state, listen("::1", 0)) as port,
        closing(http.client.HTTPConnection("::1", port, timeout=5)) as connection,
    ):
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"live\n"


def test_worker_is_not_ready_before_it_says_so(state: Health, port: int) -> None:
    assert get(port, "/readyz") == (503, "not ready\n")
    state.ready = True
    assert get(port, "/readyz") == (200, "ready\n")


def test_worker_is_not_ready_while_no_member_of_its_group_reads_a_partition(state: Health, port: int) -> None:
    state.ready, state.unread = True, frozenset({("orders.created", 9), ("orders.created", 8)})
    words = "not ready: no member of the group reads orders.created[8], orders.created[9]\n"
    assert get(port, "/readyz") == (503, words)
    state.unread = frozenset()
    assert get(port, "/readyz") == (200, "ready\n")


def test_worker_that_pauses_is_not_ready_but_live(state: Health, port: int) -> None:
    state.ready = True
    state.ready = False
    assert get(port, "/readyz")[0] == 503
    assert get(port, "/livez") == (200, "live\n")


def test_loop_that_does_not_move_is_not_live_until_it_does(
    state: Health, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + LIVE_WITHIN_SECONDS + 1)
    assert get(port, "/livez") == (503, "stuck\n")
    state.beat()
    assert get(port, "/livez") == (200, "live\n")


def test_metrics_are_reported_in_prometheus_text(state: Health) -> None:
    state.unread = frozenset({("orders.created", 9), ("orders.created", 8)})
    with serving_probes(state, HealthSettings(), metrics.of_worker("inventory_")) as port:
        status, text = get(port, "/metrics")
    assert status == 200
    assert "# TYPE python_info gauge" in text
    assert "kafka_unread_partitions 2.0" in text


def test_metrics_that_no_observer_keeps_are_not_found(state: Health) -> None:
    with serve(state, listen("127.0.0.1", 0)) as port:
        assert get(port, "/metrics") == (404, "no metrics: the observer keeps none\n")


def test_page_that_fails_is_answered_so(made: Made, port: int) -> None:
    """Red before: the connection was closed without an answer."""

    def failing() -> bytes:
        raise ValueError("a file is torn")

    made.page = failing
    assert get(port, "/metrics") == (500, "failed\n")
    assert get(port, "/readyz")[0] == 503


def test_slow_page_is_made_once_for_all_who_ask__and_holds_up_no_other(made: Made, port: int) -> None:
    """Red before: they queued, each for a page of its own, and the other pages behind them."""
    go, times = Event(), []

    def slowly() -> bytes:
        times.append(1)
        go.wait(5)
        return b"once"

    made.page = slowly
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(get, port, "/metrics") for _ in range(8)]
        while not times:
            time.sleep(0.01)
        assert get(port, "/readyz")[0] == 503
        time.sleep(0.2)  # for all eight to have asked
        go.set()
        assert {each.result() for each in answers} == {(200, "once")}
    assert len(times) == 1


def test_other_paths_name_those_that_exist(port: int) -> None:
    assert get(port, "/") == (404, "/livez, /readyz, /metrics\n")


def test_server_is_gone_with_its_block(state: Health) -> None:
    with serve(state, listen("127.0.0.1", 0)) as port:
        assert get(port, "/livez")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        get(port, "/livez")


def test_port_that_is_taken_ends_the_process_naming_the_setting(state: Health, port: int) -> None:
    taken = HealthSettings(health_port=port)
    with pytest.raises(FatalError, match=f"PIPELINE_HEALTH_PORT: cannot listen on 127.0.0.1:{port}"):
        serving_probes(state, taken, ()).__enter__()


def test_client_that_asks_and_leaves_costs_no_line_in_the_log(
    made: Made, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A frozen worker finds all its probes of that time when it wakes, and none of them waits any more."""
    asked, left, answered = Event(), Event(), Event()

    def slowly() -> bytes:
        asked.set()
        left.wait(5)
        answered.set()
        return b"x" * 1_000_000

    made.page = slowly
    impatient = socket.create_connection(("127.0.0.1", port))
    impatient.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert asked.wait(5)
    impatient.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
    impatient.close()
    left.set()
    assert answered.wait(5)
    assert get(port, "/livez") == (200, "live\n")
    assert capfd.readouterr() == ("", "")


def test_probes_are_answered_while_clients_without_a_word_hold_all_the_connections_they_can(port: int) -> None:
    """Red before: a thread for each, 518 in a worker with 500 of them."""
    before = threading.active_count()
    with ExitStack() as idle:
        for _ in range(500):
            idle.enter_context(socket.create_connection(("127.0.0.1", port)))
        began = time.monotonic()
        assert get(port, "/livez") == (200, "live\n")
        assert get(port, "/metrics")[0] == 200
        assert time.monotonic() - began < 1
        assert threading.active_count() - before <= 2  # one per page


def test_client_that_sends_no_request_is_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        silent.sendall(b"GET /livez HTTP/1.1\r\n")
        assert silent.recv(1) == b""


def test_page_that_takes_long_does_not_hold_up_livez(made: Made, port: int) -> None:
    let_go = Event()

    def slowly() -> bytes:
        let_go.wait(10)
        return b""

    made.page = slowly
    with ExitStack() as waiting:
        for _ in range(8):
            asking = waiting.enter_context(socket.create_connection(("127.0.0.1", port)))
            asking.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert get(port, "/livez") == (200, "live\n")
        let_go.set()


def test_other_methods_are_refused(port: int) -> None:
    assert get(port, "/livez", method="POST") == (405, "GET, HEAD\n")


HANGS = """
import sys, time
from common.config import HealthSettings
from common.telemetry import serving_probes
from onceloop import health
health.STUCK_SECONDS, health.AWAKE_SECONDS = 0.3, 0.2
state = health.Health()
with serving_probes(state, HealthSettings(), ()):
    for _ in range(20):
        state.beat()
        time.sleep(0.05)
    print("moved", flush=True)
    time.sleep(30)
"""


def test_process_whose_loop_hangs_is_ended_and_says_so() -> None:
    """As in librdkafka issue 5456: a call with a time-out that never returns."""
    hung = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=20, check=False)
    assert hung.returncode == ExitCode.UNAVAILABLE
    assert hung.stdout.startswith("moved")
    assert "loop.stuck" in hung.stdout + hung.stderr


def test_process_that_was_frozen_is_given_time_to_move(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail(f"ended with {code}"))
    state = Health()
    watchdog = health.Watchdog(state, SILENT)
    now += 10 * health.STUCK_SECONDS
    watchdog.look()
    now += health.AWAKE_SECONDS - 1
    watchdog.look()
    state.beat()
    now += health.AWAKE_SECONDS
    watchdog.look()
