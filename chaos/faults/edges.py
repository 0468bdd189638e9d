"""Faults at the edges: the API's processes and clients, the notification's processes, those that count minutes."""

import http.client
import random
import time
from contextlib import closing, suppress
from http import HTTPStatus

from chaos.faults.harness import PASSED_UNDER_LOAD, READY_SECONDS_MAX, Evidence, Fault, Harness, Hurts, at_a_point, how
from chaos.load.strangers import Stranger, besieged
from chaos.points import Point, Way
from chaos.run.findings import VoidRunError
from chaos.run.plan import Action
from chaos.run.processes import Slot

OVERSIZE_BYTES = 3_000_000
ANSWER_SECONDS = 5.0
LORIS_CONNECTIONS = 30
LORIS_SECONDS = 4.0
AGAIN_SECONDS = 0.25

_METRICS = (
    *PASSED_UNDER_LOAD["metrics"],
    Point("metrics", "committed", Way.LOAD),
    Point("metrics-totals", "produced", Way.LOAD),
    Point("metrics-totals", "committed", Way.LOAD),
)

kill_api_worker = at_a_point(PASSED_UNDER_LOAD["order"], Action.KILL, hits=5)
"""SIGKILL a process of the API in the middle of a request."""
kill_notification = at_a_point(PASSED_UNDER_LOAD["notification"], Action.KILL, hits=3)
"""SIGKILL a process of the notification in the middle of its work."""
kill_metrics = at_a_point(_METRICS, Action.KILL, hits=3)
"""SIGKILL who counts minutes, or who adds them up, around one of its commits."""


def kill_api(harness: Harness, _chance: random.Random) -> Evidence:
    """SIGKILL the whole API."""
    slot = harness.pipeline.slot("order-api")
    harness.wait_ready(slot)
    pid = harness.pipeline.shoot(slot)
    if not pid:
        raise VoidRunError("the API was gone before it could be killed")
    harness.killed.add(pid)
    harness.pipeline.wait(
        lambda: slot.pid not in {0, pid} and slot.ready, "the API ready again", seconds=READY_SECONDS_MAX
    )
    return {"pid": pid}


def oversize(harness: Harness, _chance: random.Random) -> Evidence:
    """Send a body that is far too large; it must be refused."""
    slot, refused = harness.pipeline.slot("order-api"), HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    harness.wait(
        lambda: _send_oversize(slot) == refused,
        f"a body of {OVERSIZE_BYTES} bytes refused",
        every_seconds=AGAIN_SECONDS,
    )
    return {"bytes": OVERSIZE_BYTES, "status": int(refused)}


def _send_oversize(slot: Slot) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", slot.port, timeout=ANSWER_SECONDS)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.putrequest("POST", "/orders")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(OVERSIZE_BYTES))
        connection.endheaders()
        with suppress(OSError):  # an early refusal closes the way in
            connection.send(b" " * OVERSIZE_BYTES)
        return connection.getresponse().status
    return 0


def loris(harness: Harness, _chance: random.Random) -> Evidence:
    """Keep many connections busy with requests that never end; others must be served meanwhile."""
    slot = harness.pipeline.slot("order-api")
    harness.wait_ready(slot)
    try:
        with besieged(f"http://127.0.0.1:{slot.port}", Stranger.SLOW_HEAD, count=LORIS_CONNECTIONS):
            time.sleep(LORIS_SECONDS)
    except OSError as error:
        raise VoidRunError("the API takes no connection") from error
    return {"connections": LORIS_CONNECTIONS, "seconds": LORIS_SECONDS}


def rotate_notification(harness: Harness, _chance: random.Random) -> Evidence:
    """SIGTERM to the notification and to the projection, under load."""
    return {
        "stopped": how([harness.stop_in_order(slot) for slot in harness.unspared("notification", "order-projection")])
    }


FAULTS = (
    Fault("API worker killed", Hurts.API, kill_api_worker),
    Fault("API killed", Hurts.API, kill_api),
    Fault("oversize request", Hurts.API, oversize),
    Fault("slow loris", Hurts.API, loris),
    Fault("notification killed", Hurts.NOTIFICATION, kill_notification),
    Fault("followers rotated", Hurts.NOTIFICATION, rotate_notification),
    Fault("metrics killed", Hurts.METRICS, kill_metrics),
)
