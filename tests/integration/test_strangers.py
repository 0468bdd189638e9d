"""The API among clients that are idle, slow, or wait for nothing: others are served as if these were not there."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import psutil
import pytest

from chaos.load.strangers import COUNTS, Stranger, besieged, serve_others
from common.topics import ORDERS_CREATED
from order_service.io.http_worker import PATIENCE_SECONDS, QUEUED_PER_THREAD_MAX
from tests.api import Api, behind, new_user, order_body, running_api
from tests.forwarder import Forwarder, forward
from tests.pipeline import Pipeline, open_pipeline
from tests.processes import Process
from tests.records import read
from tests.stack import Stack

PROBE_SECONDS_MAX = 0.1
ORDER_SECONDS_MAX = 1.0
SLOWER = 5
"""A machine that does other things may be slower than a calm one by so much."""
THREADS = 8


@pytest.fixture(scope="module")
def pipeline(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """One for all tests of this module: users keep them apart, and each starts an API of its own."""
    with open_pipeline(servers, logs=tmp_path_factory.mktemp("strangers")) as opened:
        yield opened


@pytest.fixture
def api(pipeline: Pipeline) -> Iterator[tuple[Api, Process]]:
    with running_api(pipeline) as running:
        yield running


@pytest.fixture
def postgres(pipeline: Pipeline) -> Iterator[Forwarder]:
    with forward(pipeline.settings.postgres_admin_url) as forwarder:
        yield forwarder


def connected(api: Api) -> socket.socket:
    where = urlsplit(api.url)
    return socket.create_connection((str(where.hostname), where.port or 80), timeout=20)


def cpu_seconds(process: Process) -> float:
    """Return what the API's processes have used."""
    master = psutil.Process(process.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (master, *master.children()))


@pytest.mark.parametrize("kind", list(Stranger))
def test_others_are_served_while_strangers_hold_all_that_they_can(
    pipeline: Pipeline, api: tuple[Api, Process], kind: Stranger
) -> None:
    """Red before: probes were answered after 2 to 49 s, or not at all. No worker runs here, so no wait ends early."""
    with besieged(api[0].url, kind, count=COUNTS[kind]):
        served = serve_others(api[0].url, api[1].health_url)
    assert served.wrong == ()
    written = {seen.headers["ce_id"].decode() for seen in read(pipeline, ORDERS_CREATED)}
    assert written.issuperset(served.accepted)
    assert served.probe_seconds_max < SLOWER * PROBE_SECONDS_MAX
    assert served.order_seconds_max < SLOWER * ORDER_SECONDS_MAX


@pytest.mark.parametrize("more", [b"", b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{"])
def test_request_that_does_not_get_on_is_cut_with_408(api: tuple[Api, Process], more: bytes) -> None:
    with connected(api[0]) as slow:
        slow.sendall(b"POST /orders HTTP/1.1\r\nHost: t\r\n" + more)
        assert b" 408 " in slow.recv(1024)
        assert slow.recv(1024) == b""


@pytest.mark.parametrize(
    "begun", [b"G", b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Length: 9000\r\n\r\n" + b"x" * 8999]
)
def test_client_that_goes_in_the_middle_of_its_request_is_let_go_at_once(
    api: tuple[Api, Process], begun: bytes
) -> None:
    """Red before: its last bytes woke the main thread without end, for five seconds and more."""
    with connected(api[0]) as gone:
        gone.sendall(begun)
        time.sleep(0.2)
        gone.shutdown(socket.SHUT_WR)
        gone.settimeout(ORDER_SECONDS_MAX)
        with suppress(ConnectionResetError):
            assert gone.recv(1) == b""


def test_length_of_more_digits_than_a_number_has_is_refused__and_its_process_lives(api: tuple[Api, Process]) -> None:
    """Red before: one such request ended the process, and with it the requests of all others."""
    length = b"9" * 5000
    with connected(api[0]) as hostile:
        hostile.sendall(b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Length: %s\r\n\r\n" % length)
        assert b" 400 " in hostile.recv(1024)
    assert api[0].place(new_user()).status == 202
    assert api[1].output().count("worker.started") == 1


def test_body_in_packets_of_a_byte_costs_little(api: tuple[Api, Process]) -> None:
    """Aim: the kernel's buffer is full before the body is whole. It is answered, and nothing turns in circles."""
    size = 60_000
    with connected(api[0]) as tiny:
        tiny.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tiny.sendall(b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n")
        tiny.sendall(b"Content-Length: %d\r\n\r\n" % size)
        worked = cpu_seconds(api[1])
        for _ in range(size):
            tiny.send(b" ")
        assert b" 400 " in tiny.recv(1024)
        assert cpu_seconds(api[1]) - worked < 1.0


def test_client_that_says_nothing_is_cut(api: tuple[Api, Process]) -> None:
    with connected(api[0]) as silent:
        assert silent.recv(1) == b""


def test_body_that_comes_in_pieces_is_taken(api: tuple[Api, Process]) -> None:
    body = order_body(new_user()).encode()
    with connected(api[0]) as slow:
        slow.sendall(b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n")
        time.sleep(0.2)
        slow.sendall(b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        assert slow.recv(1024).startswith(b"HTTP/1.1 100 ")
        for at in range(0, len(body), 10):
            slow.sendall(body[at : at + 10])
        answer = b""
        while b"202" not in answer:  # gunicorn asks for the body once more
            answer += slow.recv(1024)
            assert answer


def test_request_for_which_no_thread_will_be_free_in_time_is_answered_503_at_once(
    pipeline: Pipeline, postgres: Forwarder
) -> None:
    """Red before: all were queued, however many, and worked off long after their clients had gone."""
    places = THREADS * (1 + QUEUED_PER_THREAD_MAX)
    with running_api(pipeline, behind(pipeline, postgres)) as (api, _), ThreadPoolExecutor(places + 20) as pool:
        postgres.freeze()
        waiting = [pool.submit(api.place, key=new_user()) for _ in range(places)]
        time.sleep(1)
        began = time.monotonic()
        refused = [pool.submit(api.place) for _ in range(20)]
        answers = [each.result() for each in refused]
        assert time.monotonic() - began < ORDER_SECONDS_MAX * SLOWER
        assert {(each.problem, each.headers["retry-after"]) for each in answers} == {("unavailable", "2")}
        assert {each.result().problem for each in waiting} == {"unavailable"}


def test_order_of_a_client_that_has_gone_is_not_begun(pipeline: Pipeline, postgres: Forwarder) -> None:
    """Red before: it was placed minutes later, when a thread was free."""
    gone = [new_user() for _ in range(THREADS)]
    with running_api(pipeline, behind(pipeline, postgres)) as (api, _), ThreadPoolExecutor(2 * THREADS) as pool:
        postgres.freeze()
        holding = [pool.submit(api.place, key=new_user()) for _ in range(2 * THREADS)]
        time.sleep(0.5)
        with ExitStack() as impatient:
            for user in gone:
                body = order_body(user).encode()
                client = impatient.enter_context(connected(api))
                client.sendall(
                    b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                )
            time.sleep(0.5)
        for each in holding:
            each.result()
        time.sleep(PATIENCE_SECONDS)
        postgres.heal()
        later = new_user()
        assert api.place(later).status == 202
        placed = {seen.key for seen in read(pipeline, ORDERS_CREATED)}
        assert later.encode() in placed
        assert placed.isdisjoint(user.encode() for user in gone)
