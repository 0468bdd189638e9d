"""The shop's counter without servers: the API's application on stand-ins for our own ports.

What the database and the broker make of it is asked of the real ones, in tests/integration.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import sqlalchemy as sa
from flask import Flask
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from common.events.codec import Codec
from common.events.orders import OrderCreated
from onceloop.errors import Busy
from onceloop.kafka.acked_producer import Unacknowledged
from order_service.core.idempotency import KeyRow
from order_service.core.status import OrderStatus
from order_service.io import app as application
from order_service.io.publisher import Publisher
from order_service.io.readiness import Readiness
from tests.factories import make_codec

NO_HEADERS: Mapping[str, str | None] = MappingProxyType({})


@dataclass
class Counter:
    """What stands in for the tables and the topic; `broken`: what does not answer."""

    rows: dict[tuple[str, str], KeyRow] = field(default_factory=dict)
    topic: list[bytes] = field(default_factory=list)
    asked: list[frozenset[str]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    codec: Codec = field(default_factory=make_codec)

    def claim(self, offered: KeyRow) -> KeyRow:
        return self.rows.setdefault((offered.user_id, offered.key), offered)

    def find_row(self, user_id: str, key: str) -> KeyRow | None:
        return self.rows.get((user_id, key))

    def acknowledge(self, row: KeyRow) -> None:
        if "marking" in self.broken:
            raise Busy("the database is away")
        self.rows[row.user_id, row.key] = replace(row, acknowledged=True)

    def send(self, event: bytes, _order: OrderCreated | None = None) -> Any:
        """Hand over; the broker may take it and not say so, or not take it."""

        def wait(_seconds: float) -> None:
            if self.broken & {"acknowledgement", "broker"}:
                raise Unacknowledged("no acknowledgement")

        if "broker" not in self.broken:
            self.topic.append(event)
        return SimpleNamespace(wait=wait)

    def page(self, user_ids: Collection[str], *, before: str | None, limit: int) -> Sequence[OrderStatus]:
        """Note whose orders were asked for; there are none."""
        del before, limit
        self.asked.append(frozenset(user_ids))
        return []

    def orders(self) -> list[OrderCreated]:
        """Return what is on the topic."""
        return [self.codec.decode(OrderCreated, event) for event in self.topic]

    def app(self) -> Flask:
        """Return the application."""
        keys = SimpleNamespace(claim=self.claim, find=self.find_row, acknowledge=self.acknowledge)
        statuses = SimpleNamespace(page=self.page, find=lambda _: None)
        publisher = SimpleNamespace(encode=self.codec.encode, send=self.send, learn=lambda _: None)
        with (
            patch.object(application, "KeyStore", lambda _: keys),
            patch.object(application, "StatusStore", lambda _: statuses),
        ):
            return application.create_app(
                sa.create_engine("postgresql+psycopg://"),  # connects to nothing
                cast(Publisher, publisher),
                cast(Readiness, SimpleNamespace()),
                stopping=lambda: True,
                metrics_page=lambda: b"",
                threads=1,
            )


def ask(
    counter: Counter,
    method: str,
    target: str,
    headers: Mapping[str, str | None] = NO_HEADERS,
    body: bytes = b"",
    *,
    protocol: str = "HTTP/1.1",
) -> Response:
    """Ask as a server does: the target is not escaped, a header that is None is not sent."""
    path, _, query = target.partition("?")
    environ = EnvironBuilder(method=method, data=body or None).get_environ()
    environ |= {"PATH_INFO": path, "QUERY_STRING": query, "SERVER_PROTOCOL": protocol}
    for name, value in headers.items():
        variable = name.upper().replace("-", "_")
        variable = variable if variable == "CONTENT_TYPE" else f"HTTP_{variable}"
        environ.pop(variable, None)
        if value is not None:
            environ[variable] = value
    return Response.from_app(counter.app(), environ)
