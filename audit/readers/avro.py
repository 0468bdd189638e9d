"""Bytes -> plain values, by the schema that the record names: the checker's own reading of the five-byte frame.

Nothing of the services' codec is used. A schema is fetched from the registry once, over its Confluent API.
"""

import json
import re
import struct
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast

import fastavro
import stamina

from audit.errors import StoreDownError
from audit.readers.web import get_json
from common.config import proxy_of, without_credentials

FRAME = struct.Struct(">bI")
REGISTRY_SECONDS = 5.0
CURE = "see: pipeline status"

UUID_TEXT = re.compile("-".join(f"[0-9a-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12)))
LINES_MAX = 100
QUANTITY_MAX = 10_000
SKU_LENGTH_MAX = 64
USER_ID_LENGTH_MAX = 128


class UnreadableError(Exception):
    """These bytes hold no event, and why."""


class Registry:
    """Schemas by id. Raises StoreDownError while the registry does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._schemas: dict[int, tuple[str, Any]] = {}

    def decode(self, value: bytes | None, expected: str) -> dict[str, Any]:
        """Return the fields of the event that these bytes hold. Raises UnreadableError if it is not `expected`."""
        if value is None or len(value) < FRAME.size:
            raise UnreadableError("shorter than the frame")
        magic, schema_id = FRAME.unpack_from(value)
        if magic != 0:
            raise UnreadableError(f"magic byte {magic & 0xFF}")
        name, schema = self._schema(schema_id)
        if name != expected:
            raise UnreadableError(f"schema {schema_id} is {name}, not {expected}")
        body = BytesIO(value)
        body.seek(FRAME.size)
        try:
            fields = fastavro.schemaless_reader(body, schema, None)
        except Exception as error:
            raise UnreadableError(f"not Avro: {type(error).__name__}") from error
        if body.tell() != len(value):
            raise UnreadableError("bytes behind the record")
        return cast(dict[str, Any], fields)  # the schema is a record: its name was asked for

    def _schema(self, schema_id: int) -> tuple[str, Any]:
        if schema_id not in self._schemas:
            text = self._read(schema_id)
            schema = None if text is None else _plain(json.loads(text))
            name = str(schema.get("name")) if isinstance(schema, dict) else "unknown"
            self._schemas[schema_id] = (name, schema and fastavro.parse_schema(schema))
        return self._schemas[schema_id]

    def _read(self, schema_id: int) -> str | None:
        """Return the schema's text, or None if it is not registered."""
        url = f"{self._url}/schemas/ids/{schema_id}"
        try:
            for attempt in stamina.retry_context(on=ConnectionError, attempts=3, wait_initial=0.2):
                with attempt:  # a busy registry closes connections unanswered; what it is asked for never changes
                    status, document = get_json(url, seconds=REGISTRY_SECONDS)
        except OSError as error:
            raise StoreDownError(f"the registry does not answer at {_shown(url)}: {error}", cure=CURE) from error
        if document is None and status != HTTPStatus.NOT_FOUND:
            raise StoreDownError(f"the registry answers {status} at {_shown(url)}", cure=CURE)
        return str(document["schema"]) if document else None


def _shown(url: str) -> str:
    """Return the URL for a message: without its password, with the proxy that stands in between."""
    proxy = proxy_of(url)
    return without_credentials(url) + (f", by way of the proxy {proxy}" if proxy else "")


def impossible(order: dict[str, Any]) -> str:
    """Return why no customer can have ordered this, or an empty text: the published limits, written a second time."""
    if not UUID_TEXT.fullmatch(order["order_id"]):
        return "order_id is no UUID"
    if not _is_name(order["user_id"], USER_ID_LENGTH_MAX):
        return "user_id is no name"
    if not 0 < order["placed_at"] < 253_402_300_800_000:  # noqa: PLR2004 - the year 10000
        return "placed_at is out of range"
    lines = order["lines"]
    if not 0 < len(lines) <= LINES_MAX or len({line["sku"] for line in lines}) < len(lines):
        return "lines are none, too many, or name a SKU twice"
    if not all(_is_name(line["sku"], SKU_LENGTH_MAX) and 0 < line["quantity"] <= QUANTITY_MAX for line in lines):
        return "a line has no SKU or an impossible quantity"
    return ""


def _is_name(text: str, length_max: int) -> bool:
    """Return whether readers take it: printable, but for the two joiners of Persian and of emoji."""
    visible = text.replace("\u200c", "").replace("\u200d", "")
    return 0 < len(text) <= length_max and visible.isprintable()


def _plain(schema: Any) -> Any:
    """Return the schema without logical types: times stay numbers, ids stay texts."""
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name != "logicalType"}
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    return schema
