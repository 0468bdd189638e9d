"""The HTTP application: routes, problems, request ids, probes and the description of it all.

`create_app` connects nothing; what it is given was built in this process, after fork.
"""

import re
import time
from collections.abc import Callable

import sqlalchemy as sa
import structlog
from flask import Request, Response, g
from flask_openapi.models.info import Info
from flask_openapi.models.tag import Tag
from flask_openapi.openapi import OpenAPI
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.wrappers import Response as AnyResponse

from common import metrics
from common.log import get_logger
from order_service.io import docs, problems
from order_service.io.intake import Intake
from order_service.io.key_store import KeyStore
from order_service.io.large_answers import LargeAnswers
from order_service.io.payloads import ProblemDocument, ReadinessDocument
from order_service.io.publisher import Publisher
from order_service.io.readiness import Readiness
from order_service.io.reading import BODY_BYTES_MAX, refuse_ambiguous, this_request
from order_service.io.routes import OrderRoutes
from order_service.io.status_store import StatusStore
from order_service.io.waits import Waits

API_VERSION = "1.0.0"
"""Of the description, by SemVer: not the version of the code behind it."""

WAITING_SHARE = 4
"""One thread in so many may wait for an outcome at a time."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_SERVER_ERROR = 500
_DESCRIPTION = (
    "An accepted order is stored durably, its stock is reserved exactly once, and the customer is notified. Errors are"
    " problems as in RFC 9457. The events behind it are described at [/docs/events](/docs/events)."
)

log = get_logger()


def create_app(
    engine: sa.Engine,
    publisher: Publisher,
    readiness: Readiness,
    *,
    stopping: Callable[[], bool],
    metrics_page: Callable[[], bytes],
    threads: int,
) -> OpenAPI:
    """Return the WSGI application. `stopping` turns true when the process was asked to stop: waits end early.

    `metrics_page` returns what /metrics answers, of all processes of the service. `threads`: how many answer here.
    """
    app = OpenAPI(
        __name__,
        info=Info(title="Order pipeline", version=API_VERSION, description=_DESCRIPTION),
        doc_ui=False,
        validation_error_model=ProblemDocument,
        validation_error_status=500,  # named here so that flask-openapi adds no description of its own
        responses=problems.described(400, 408, 414, 431, 500),
        static_folder=None,
    )
    app.openapi_version = "3.1.0"
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX + 1  # so that a body that is too long differs from a full one
    app.before_request(_begin)
    app.after_request(_end)
    app.after_request(LargeAnswers(threads=threads).bound)  # runs before the line above
    app.teardown_request(_leave)
    problems.register(app)
    statuses = StatusStore(engine)
    waits = Waits(max(threads // WAITING_SHARE, 1), stopping=stopping)
    OrderRoutes(Intake(KeyStore(engine), publisher), statuses, waits).register(app)
    _register_probes(app, readiness)
    docs.register(app)
    app.add_url_rule("/metrics", "metrics", lambda: Response(metrics_page(), content_type=CONTENT_TYPE_LATEST))
    return app


def _register_probes(app: OpenAPI, readiness: Readiness) -> None:
    def livez() -> Response:
        """Confirm that this process answers."""
        return Response("live\n", mimetype="text/plain")

    def readyz() -> Response:
        """Say whether orders can be accepted: database, broker and schema; within seconds."""
        document = readiness.document()
        return Response(document.model_dump_json() + "\n", 200 if document.ready else 503, mimetype="application/json")

    tag = Tag(name="probes", description="For supervisors.")
    live = {"description": "live", "content": {"text/plain": {"schema": {"type": "string"}}}}
    app.get("/livez", tags=[tag], operation_id="livez", responses={200: live})(livez)
    app.get("/readyz", tags=[tag], operation_id="readyz", responses={200: ReadinessDocument, 503: ReadinessDocument})(
        readyz
    )


def _begin() -> None:
    asked = this_request()
    offered = asked.headers.get("X-Request-Id", "")
    g.request_id = request_id = offered if _REQUEST_ID.fullmatch(offered) else problems.new_request_id()
    g.begun = time.monotonic()
    structlog.contextvars.bind_contextvars(request_id=request_id)  # until this thread's next request binds its own
    if asked.path not in _PROBES:
        g.counted = True
        metrics.HTTP_IN_PROGRESS.inc()
    refuse_ambiguous(asked)


def _end(response: AnyResponse) -> AnyResponse:
    asked = this_request()
    response.headers["X-Request-Id"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    if asked.path in _PROBES:  # a supervisor asks often, and "not yet" is an answer
        return response
    seconds = time.monotonic() - g.begun
    metrics.HTTP_SECONDS.labels(*_served(asked, response)).observe(seconds)
    write = log.warning if response.status_code >= _SERVER_ERROR else log.debug
    write(
        "request.answered",
        method=asked.method,
        path=asked.path,
        status=response.status_code,
        duration_ms=round(seconds * 1000, 1),
    )
    return response


def _leave(_error: BaseException | None) -> None:
    if g.pop("counted", None):
        metrics.HTTP_IN_PROGRESS.dec()


def _served(asked: Request, response: AnyResponse) -> tuple[str, str, int]:
    """Return method, route template and status: labels of which a client cannot make new ones."""
    method = asked.method if asked.method in _METHODS else "OTHER"
    route = _PARAMETER.sub(r"{\1}", asked.url_rule.rule) if asked.url_rule else "unmatched"
    return method, route, response.status_code
