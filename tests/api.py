"""Talk to a running API over HTTP, byte by byte where a test needs it."""

import http.client
import json
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.forwarder import Forwarder
from tests.pipeline import Pipeline
from tests.processes import Process

TEA: tuple[tuple[str, int], ...] = (("tea", 2),)
TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """Return the name of the problem type."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json["type"]).removeprefix("urn:order-pipeline:problem:")

    @property
    def fields(self) -> set[str]:
        return {error["field"] for error in self.json["errors"]}


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API listens."""

    url: str

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=_named(headers))

    def post(self, body: bytes | str, **headers: str) -> Answer:
        """POST bytes as they are to /orders; JSON unless `Content_Type` says otherwise."""
        raw = body.encode() if isinstance(body, str) else body
        return self.request("POST", "/orders", raw, {"Content-Type": "application/json", **_named(headers)})

    def place(
        self,
        user_id: str | None = None,
        lines: Sequence[tuple[str, int]] = TEA,
        *,
        key: str | None = None,
        **headers: str,
    ) -> Answer:
        """POST a well-formed order."""
        named = headers if key is None else {"Idempotency_Key": key, **headers}
        return self.post(order_body(user_id or new_user(), lines), **named)


@contextmanager
def running_api(
    pipeline: Pipeline, env: Mapping[str, str] | None = None, *, ready: bool = True
) -> Iterator[tuple[Api, Process]]:
    """Run the API in one worker process, for which /readyz speaks; wait for that unless the test has other plans."""
    small = {"PIPELINE_HTTP_WORKERS": "1", "PIPELINE_HTTP_THREADS": "8"}
    process = pipeline.start("order_service", "api", role="order_rw", env={**small, **(env or {})})
    try:
        if ready:
            process.wait_ready(process.http_url)
        yield Api(process.http_url), process
    finally:
        process.kill()


def connected(api: Api) -> socket.socket:
    """Return a connection for requests that no client library would send."""
    at = urlsplit(api.url)
    return socket.create_connection((at.hostname, at.port), timeout=20)


def raw_answer(api: Api, sent: bytes) -> Answer:
    """Send bytes as they are and return the answer; the server or the bytes must ask for the connection's end."""
    with connected(api) as raw:
        raw.sendall(sent)
        head, _, body = raw.makefile("rb").read().partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    return Answer(int(head.split()[1]), {name.lower(): value for name, value in headers.items()}, body)


def start_projection(pipeline: Pipeline, env: Mapping[str, str] | None = None, *, slot: int = 0) -> Process:
    return pipeline.start("order_service", "projection", role="order_rw", slot=slot, env=env)


def behind(pipeline: Pipeline, postgres: Forwarder) -> dict[str, str]:
    """Return what sends a process to the database through the forwarder."""
    return {"PIPELINE_POSTGRES_URL": f"postgresql://order_rw@127.0.0.1:{postgres.port}/{pipeline.settings.database}"}


def order_body(user_id: str, lines: Sequence[tuple[str, int]] = TEA) -> str:
    return json.dumps({"user_id": user_id, "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]})


def new_user() -> str:
    return f"user-{uuid.uuid4().hex}"


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
