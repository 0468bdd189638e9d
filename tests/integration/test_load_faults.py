"""The load as a client: what it repeats, what it lets be, and what it reports of servers that fail it."""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from audit.readers.evidence import Evidence
from audit.readers.http_history import read_history
from audit.readers.written import read_written
from audit.testimony import End
from audit.whole import audit
from chaos.load import DirectLoad, HttpLoad, Mix
from chaos.wire.proxy import PRODUCE, KafkaProxy
from chaos.wire.relay import Action, Direction
from tests.integration.test_load import broken, settings_of
from tests.pipeline import Pipeline
from tests.records import wait_for

PLAIN = Mix(seed=1, keyed=1.0, paired=0.0, conflicting=0.0, invalid=0.0)
CUT = 0
"""Not an answer: the connection is closed instead of one."""


class Asked:
    """A server that answers each request with the next of the given statuses, 202 behind the last; it keeps bodies.

    `pairs`: it keeps a request waiting, up to 2 s, until the other one under its key is there.
    """

    def __init__(self, statuses: Sequence[int], *, pairs: bool) -> None:
        self.bodies: list[tuple[str | None, bytes]] = []
        self._statuses = iter(statuses)
        self._lock = threading.Lock()
        self._pairs = pairs
        self._meetings: dict[str | None, threading.Barrier] = {}

    def answer(self, key: str | None, body: bytes) -> int:
        with self._lock:
            self.bodies.append((key, body))
            status = next(self._statuses, 202)
            meeting = self._meetings.setdefault(key, threading.Barrier(2))
        if self._pairs:
            with suppress(threading.BrokenBarrierError):
                meeting.wait(2)
        return status


@contextmanager
def server(*statuses: int, pairs: bool = False) -> Iterator[tuple[str, Asked]]:
    asked = Asked(statuses, pairs=pairs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = asked.answer(self.headers["Idempotency-Key"], body)
            if status == CUT:
                self.close_connection = True
                return
            reply = json.dumps({"order_id": str(uuid.uuid4())}).encode() if status == 202 else b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        serving = threading.Thread(target=listening.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        finally:
            listening.shutdown()
            serving.join()


def ends(history: Path) -> list[End]:
    return [request.end for request in read_history([history])]


def test_a_request_with_a_key_is_repeated_to_the_byte_until_its_end_is_known(tmp_path: Path) -> None:
    with server(503, CUT, 500) as (url, asked):
        mix = replace(PLAIN, http_orders=1)
        tally = HttpLoad(url, tmp_path / "history", threads=1).run(mix)

    assert len(set(asked.bodies)) == 1
    assert ends(tmp_path / "history") == [End.INFO, End.INFO, End.INFO, End.OK]
    assert (tally.orders, tally.ok, tally.info) == (1, 1, 3)


def test_a_request_without_a_key_is_not_repeated(tmp_path: Path) -> None:
    with server(503, CUT) as (url, asked):
        mix = replace(PLAIN, http_orders=3, keyed=0.0)
        tally = HttpLoad(url, tmp_path / "history", threads=1).run(mix)

    assert len(asked.bodies) == 3
    assert (tally.orders, tally.ok, tally.info) == (1, 1, 2)


def test_a_refusal_is_final(tmp_path: Path) -> None:
    with server(422) as (url, asked):
        tally = HttpLoad(url, tmp_path / "history").run(replace(PLAIN, http_orders=1))

    assert len(asked.bodies) == 1
    assert (tally.fail, tally.ok) == (1, 0)


def test_requests_keep_to_their_rate(tmp_path: Path) -> None:
    with server() as (url, _):
        tally = HttpLoad(url, tmp_path / "history").run(replace(PLAIN, http_orders=60, http_rate=60))

    assert 0.9 < tally.seconds < 3


def test_pairs_are_under_way_at_the_same_time(tmp_path: Path) -> None:
    with server(pairs=True) as (url, _):
        mix = replace(PLAIN, http_orders=40, paired=1.0)
        HttpLoad(url, tmp_path / "history").run(mix)

    by_key: dict[str | None, list[tuple[float, float]]] = {}
    for request in read_history([tmp_path / "history"]):
        by_key.setdefault(request.key, []).append((request.began, request.ended or 0))
    overlapping = [max(one[0], other[0]) < min(one[1], other[1]) for one, other in by_key.values()]
    assert Counter(overlapping)[True] > 20


def test_a_broker_that_fails_in_the_middle_gets_every_record_once(pipeline: Pipeline, tmp_path: Path) -> None:
    """Aim: what is planned is written, copy for copy. Faults: lost acknowledgements, cut connections, silence."""
    mix = Mix(seed=2, direct_orders=3000, direct_rate=1500)
    pipeline.set_stock(dict(mix.shelves()))
    written = tmp_path / "written"
    inventory = pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        # With its connection: no network delivers later answers on one that has lost an answer. The broker remembers
        # five batches, so that the sixth would make a repetition of the first "out of order".
        lost = proxy.rule(PRODUCE, direction=Direction.RESPONSE, action=Action.CUT, nth=3, times=2)
        load = DirectLoad(pipeline.kafka.model_copy(update={"kafka_bootstrap": proxy.address}), written)
        loading = threading.Thread(target=load.run, args=(mix,))
        loading.start()
        lost.wait()
        for mark in (500, 1500):
            wait_for(lambda mark=mark: load.done > mark, what="the load")  # type: ignore[misc]
            proxy.cut()
        proxy.partition()
        loading.join(2)
        proxy.heal()
        loading.join(30)
        assert not loading.is_alive()
    evidence = Evidence(written=written)
    judgement = audit(settings_of(pipeline), wait_seconds=30, followers=False, evidence=evidence)

    assert inventory.stop() == 0
    assert broken(judgement) == {}
    assert all(record.at for record in read_written([written]))
    assert judgement.counts["records"] == len(read_written([written]))


def test_records_that_were_not_acknowledged_are_reported_as_such(pipeline: Pipeline, tmp_path: Path) -> None:
    """Aim: the rules hold although some of it may be there. Fault: all acknowledgements are lost, then all else."""
    mix = Mix(seed=3, direct_orders=300, poison=0.2)
    pipeline.set_stock(dict(mix.shelves()))
    written = tmp_path / "written"
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        proxy.rule(PRODUCE, direction=Direction.RESPONSE, action=Action.DROP, times=1000)
        settings = pipeline.kafka.model_copy(update={"kafka_bootstrap": proxy.address})
        tally = DirectLoad(settings, written, patience_seconds=4).run(mix)
    inventory = pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    evidence = Evidence(written=written)
    judgement = audit(settings_of(pipeline), wait_seconds=30, followers=False, evidence=evidence)

    assert inventory.stop() == 0
    assert (tally.ok, tally.orders) == (0, 0)
    assert tally.info == len(read_written([written])) > 300
    assert broken(judgement) == {}
    assert judgement.counts["dead_letters"] > 0
