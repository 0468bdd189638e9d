"""HTTP <-> commands and questions about orders."""

import base64
import time
from typing import TYPE_CHECKING, assert_never
from uuid import UUID

from flask import Response
from flask_openapi.models.header import Header
from flask_openapi.models.tag import Tag
from flask_openapi.openapi import OpenAPI
from pydantic import BaseModel
from werkzeug.datastructures import Headers

from common import metrics
from onceloop import failpoints
from onceloop.errors import Busy
from order_service.core.status import OrderStatus, Status
from order_service.io.intake import Accepted, Intake, KeyConflict, NotAccepted, Placement, Unsure
from order_service.io.payloads import (
    AcceptedDocument,
    ListOrdersQuery,
    OrderDocument,
    OrderPage,
    OrderPath,
    PlaceOrderBody,
    PlaceOrderHeaders,
    order_address,
)
from order_service.io.problems import Problem, ProblemType, described, respond
from order_service.io.reading import reading
from order_service.io.status_store import StatusStore
from order_service.io.waits import Look, Waits

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FRESH_SECONDS = 5.0
"""An order this young may not have reached the projection yet."""
PROJECTION_SECONDS_MAX = 1.0

_UUID_VERSION_7 = 7
_AGAIN = (
    "Nothing was stored. Once this is fixed, the same request will be accepted, with the same Idempotency-Key if it has"
    " one."
)
_TAG = Tag(name="orders", description="Place orders, and see what became of them.")
_HEADERS = {
    "Location": ("Where the order's status is.", {"type": "string"}, True),
    "Preference-Applied": (
        "The maximum wait for the outcome that was applied.",
        {"type": "string", "pattern": "^wait=[0-9]+$"},
        False,
    ),
    "Idempotent-Replayed": (
        "Present if an earlier request with this key created the order, however that one was answered.",
        {"type": "string", "enum": ["true"]},
        False,
    ),
}
"""Of the answers to a placement: what it means, its schema, whether it is always there."""


class OrderRoutes:
    """The three ways to `/orders`."""

    def __init__(self, intake: Intake, statuses: StatusStore, waits: Waits) -> None:
        self._intake = intake
        self._statuses = statuses
        self._waits = waits

    def register(self, app: OpenAPI) -> None:
        """Put the routes on the application."""
        app.post(
            "/orders",
            tags=[_TAG],
            operation_id="placeOrder",
            responses={202: AcceptedDocument, 200: OrderDocument, **described(413, 415, 422, 503)},
        )(reading(self.place))
        _describe_headers(app)
        app.get(
            "/orders/<order_id>",
            tags=[_TAG],
            operation_id="getOrder",
            responses={200: OrderDocument, **described(404, 503)},
        )(reading(self.show))
        app.get("/orders", tags=[_TAG], operation_id="listOrders", responses={200: OrderPage, **described(503)})(
            reading(self.page)
        )

    def place(self, header: PlaceOrderHeaders, body: PlaceOrderBody) -> Response:
        """Place an order.

        Answers 202 once the order is stored durably; its outcome follows at `Location`. With `Prefer: wait=N` the
        answer is the outcome (200) if it comes in time. With an `Idempotency-Key` a retry is safe whatever happened
        to the first attempt, and its answer has `Idempotent-Replayed: true`; without one, a retry after 503 may order
        twice.
        """
        failpoints.point("order:parsed")
        placement = self._intake.place(body.command(), key=header.idempotency_key, as_sent=body.as_sent())
        response = self._answer(placement, header)
        failpoints.point("order:responding")
        return response

    def show(self, path: OrderPath) -> Response:
        """Show an order: pending, then reserved or failed, and whether the customer was notified."""
        status = self._find_soon(path.order_id)
        if status is None:
            return respond(Problem(ProblemType.ORDER_UNKNOWN))
        return _json(OrderDocument.of(status))

    def page(self, query: ListOrdersQuery) -> Response:
        """List a user's orders, newest first."""
        before = _order_id(query.cursor) if query.cursor is not None else None
        found = self._statuses.page(query.user_ids, before=before, limit=query.limit + 1)
        shown = found[: query.limit]
        return _json(
            OrderPage(
                orders=[OrderDocument.of(status) for status in shown],
                next=_cursor(shown[-1].order_id) if len(found) > len(shown) else None,
            )
        )

    def _answer(self, placement: Placement, header: PlaceOrderHeaders) -> Response:
        match placement:
            case Accepted():
                if placement.again:
                    metrics.ORDERS_REPEATED.inc()
                else:
                    metrics.ORDERS_ACCEPTED.labels("given" if header.idempotency_key else "absent").inc()
                return self._accepted(placement, header.wait_seconds)
            case KeyConflict():
                return respond(Problem(ProblemType.KEY_CONFLICT, "Take a new key for a new order."))
            case NotAccepted():
                metrics.ORDERS_REFUSED.inc()
                return respond(Problem(ProblemType.NOT_ACCEPTED, f"The order was refused: {placement.why}. {_AGAIN}"))
            case Unsure():
                metrics.ORDERS_UNSURE.inc()
                refused = f"It was refused just now: {placement.why}. " if placement.why else ""
                return respond(Problem(ProblemType.OUTCOME_UNKNOWN, refused + _retry_advice(header.idempotency_key)))
            case _:
                assert_never(placement)

    def _accepted(self, placement: Accepted, wait_seconds: int) -> Response:
        order_id = placement.order_id
        outcome, waited = self._outcome(order_id, wait_seconds) if wait_seconds else Look(None, waited=False)
        response = _json(OrderDocument.of(outcome)) if outcome else _json(AcceptedDocument.of(order_id), status=202)
        response.headers["Location"] = order_address(order_id)
        if waited:
            response.headers["Preference-Applied"] = f"wait={wait_seconds}"
        if placement.replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def _outcome(self, order_id: str, wait_seconds: int) -> Look:
        def decided() -> OrderStatus | None:
            found = self._statuses.find(order_id)
            return found if found is not None and found.status is not Status.PENDING else None

        try:
            return self._waits.look(decided, seconds=wait_seconds)
        except Busy:  # the order is accepted; only the waiting fails
            return Look(None, waited=True)

    def _find_soon(self, order_id: str) -> OrderStatus | None:
        seconds = PROJECTION_SECONDS_MAX if _is_fresh(order_id) else 0.0
        return self._waits.look(lambda: self._statuses.find(order_id), seconds=seconds).found


def _describe_headers(app: OpenAPI) -> None:
    """Add what flask-openapi has no parameter for."""
    for status in ("200", "202"):
        app.paths["/orders"].post.responses[status].headers = {
            name: Header.model_validate({"description": meaning, "schema": schema, "required": always})
            for name, (meaning, schema, always) in _HEADERS.items()
        }


class _Json(Response):
    """A document whose headers are final: werkzeug would look through all of them again, and parse `Location`."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:  # noqa: ARG002 - werkzeug's signature
        return self.headers


def _json(document: BaseModel, *, status: int = 200) -> Response:
    body = document.model_dump_json().encode() + b"\n"
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return _Json([body], status, headers)


def _retry_advice(key: str | None) -> str:
    if key is not None:
        return "Repeat the request with the same Idempotency-Key: it gives one order, whatever happened to this one."
    return "The broker did not confirm in time. Repeating the request may order twice; an Idempotency-Key prevents it."


def _is_fresh(order_id: str) -> bool:
    """Return whether the order was placed just now, by the time inside its UUIDv7; clocks may differ a little."""
    identity = UUID(order_id)
    placed_at_seconds = (identity.int >> 80) / 1000
    return identity.version == _UUID_VERSION_7 and abs(time.time() - placed_at_seconds) < FRESH_SECONDS


def _cursor(order_id: str) -> str:
    return base64.urlsafe_b64encode(UUID(order_id).bytes).decode().rstrip("=")


def _order_id(cursor: str) -> str:
    """Take a cursor apart; its form was checked at the rim."""
    return str(UUID(bytes=base64.urlsafe_b64decode(cursor + "==")))
