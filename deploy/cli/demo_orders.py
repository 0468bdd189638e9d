"""The twenty orders of `pipeline demo`, what must become of each, and the HTTP calls that place and follow them."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from deploy.local.supervise.loopback import LOOPBACK
from onceloop.errors import ExitCode, ReportedError

ANSWER_SECONDS = 10.0
ATTEMPTS_MAX = 10
PAUSE_SECONDS = 0.5
RESERVED = "reserved"
INSUFFICIENT, UNKNOWN = "insufficient_stock", "unknown_sku"


class DemoError(ReportedError):
    """Something did not come out as it must."""

    exit_code = ExitCode.VIOLATION


@dataclass(frozen=True, slots=True)
class Wanted:
    """One order to place. `outcome`: `reserved`, or why it must fail; `lacking`: the SKU to blame then."""

    user_id: str
    lines: Mapping[str, int]
    outcome: str = RESERVED
    lacking: str | None = None


ORDERS = (
    Wanted("ada", {"tea": 2, "mug": 1}),
    Wanted("bob", {"coffee": 1, "coffee-grinder": 1}),
    Wanted("cleo", {"gift-box": 2}),
    Wanted("cleo", {"gift-box": 2}, INSUFFICIENT, "gift-box"),  # 3 on hand; one customer's orders keep their order
    Wanted("dan", {"snow-globe": 1}, INSUFFICIENT, "snow-globe"),  # an empty shelf
    Wanted("eve", {"unicorn": 1}, UNKNOWN, "unicorn"),
    Wanted("ivo", {"teapot": 1, "cup": 6, "plate": 6}),
    Wanted("max", {"notebook": 3, "ink": 1}),
    Wanted("pia", {"tea": 1, "snow-globe": 1}, INSUFFICIENT, "snow-globe"),  # all lines or none: the tea stays
    Wanted("rosa", {"lamp": 2}),
    Wanted("sam", {"lantern": 5}),
    Wanted("sam", {"lantern": 1}, INSUFFICIENT, "lantern"),
    Wanted("kai", {"chess-set": 1, "board-game": 1}),
    Wanted("lea", {"honey": 4, "jam": 4}),
    Wanted("ivo", {"mermaid": 1, "tea": 1}, UNKNOWN, "mermaid"),
    Wanted("otto", {"umbrella": 1}),
    Wanted("max", {"globe": 4}),
    Wanted("max", {"globe": 1, "postcard": 10}, INSUFFICIENT, "globe"),
    Wanted("nia", {"candle": 12}),
    Wanted("tess", {"soap": 2, "towel": 2}),
)
"""They rest on the shelves of `deploy/provision/demo_stock.toml`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    status: int
    document: Mapping[str, Any]


class Api:
    """The orders API of a stack on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    def place(self, wanted: Wanted, *, key: str) -> str:
        """Place the order and return its id; a 503 is answered by asking again with the same key.

        Raises DemoError if it is not accepted.
        """
        for _ in range(ATTEMPTS_MAX):
            answer = self.post(body(wanted), key=key)
            if answer.status == HTTPStatus.ACCEPTED:
                return str(answer.document["order_id"])
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            time.sleep(PAUSE_SECONDS)
        raise DemoError(f"the order of {wanted.user_id} was not accepted: {answer.status} {dict(answer.document)}")

    def post(self, order: Mapping[str, Any], *, key: str) -> Answer:
        """Send any body with an Idempotency-Key; no answer at all counts as 503."""
        return self._ask("POST", "/orders", json.dumps(order), {"Idempotency-Key": key})

    def order(self, order_id: str) -> Mapping[str, Any]:
        """Return what is known of the order; empty as long as the API does not know it."""
        answer = self._ask("GET", f"/orders/{order_id}")
        return answer.document if answer.status == HTTPStatus.OK else {}

    def _ask(self, method: str, path: str, text: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=ANSWER_SECONDS)
        with closing(connection), suppress(OSError, http.client.HTTPException, ValueError):
            connection.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, {})


def body(wanted: Wanted) -> dict[str, Any]:
    """Return the JSON body of an order."""
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.lines.items()]
    return {"user_id": wanted.user_id, "lines": lines}


def decided(order: Mapping[str, Any]) -> bool:
    """Return whether the order has its outcome."""
    return bool(order) and order["status"] != "pending"


def complaint(wanted: Wanted, order: Mapping[str, Any]) -> str:
    """Return what is not as it must be, or an empty text."""
    if not decided(order):
        return "has no outcome"
    outcome = order["reason"] or order["status"]
    if outcome != wanted.outcome:
        return f"is {outcome} instead of {wanted.outcome}"
    lacking = (order["lacking"] or {}).get("sku")
    if lacking != wanted.lacking:
        return f"lacks {lacking} instead of {wanted.lacking}"
    return "" if order["notified"] else "was decided, but the customer was not notified"


def complaints(orders: Sequence[tuple[Wanted, str, Mapping[str, Any]]]) -> list[str]:
    """Return a line per order that is not as it must be."""
    return [
        f"order {order_id} of {wanted.user_id} {found}"
        for wanted, order_id, order in orders
        if (found := complaint(wanted, order))
    ]
