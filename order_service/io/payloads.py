"""What comes in and goes out over HTTP, as pydantic models: parsed once here, domain values further in.

Strict: "2" is no quantity, an unknown member is an error. Requests are read by `reading`, which hands over what came in
Python's terms: numbers with a fraction or an exponent as Decimal, parameters and headers as text.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from common.events.names import composed, name_complaint
from common.events.orders import (
    LINES_MAX,
    QUANTITY_MAX,
    SKU_LENGTH_MAX,
    USER_ID_LENGTH_MAX,
    OrderLine,
)
from order_service.core.placement import PlaceOrder
from order_service.core.status import OrderStatus, Status
from order_service.io.problems import ProblemType

KEY_LENGTH_MAX = 255
WAIT_SECONDS_MAX = 10
PAGE_MAX = 100
PAGE_DEFAULT = 20

_ORDER_ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"
_SEEN, _JOINER = r"[^\p{C}\p{Z}]", r"\u200c\u200d"
_NAME = rf"^{_SEEN}(?:(?:{_SEEN}|[ {_JOINER}])*(?:{_SEEN}|[{_JOINER}]))?$"
_PLACED: dict[str, JsonValue] = {"order_id": _ORDER_ID, "links": {"self": f"/orders/{_ORDER_ID}"}}
_RESERVED: dict[str, JsonValue] = {
    **_PLACED,
    "user_id": "ada",
    "status": "reserved",
    "lines": [{"sku": "tea", "quantity": 2}],
    "placed_at": "2025-09-02T16:22:08.640Z",
    "decided_at": "2025-09-02T16:22:08.844Z",
    "reason": None,
    "lacking": None,
    "notified": True,
    "notified_at": "2025-09-02T16:22:08.871Z",
}
_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_CURSOR = "^[A-Za-z0-9_-]{21}[AQgw]$"  # 16 bytes in base64url; the last character holds two bits of them
_KEY = (  # no comma in a bare one: it is what becomes of two headers on their way here
    rf"^(?:[\x21\x23-\x2b\x2d-\x7e](?:[\x20-\x2b\x2d-\x7e]{{0,{KEY_LENGTH_MAX - 2}}}[\x21-\x2b\x2d-\x7e])?"
    rf'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){{1,{KEY_LENGTH_MAX}}}")$'
)
_ESCAPED = re.compile(r'\\(["\\])')
_WAIT = re.compile(r'wait\s*=\s*("?)0*([0-9]{1,9})[0-9]*\1', re.IGNORECASE)  # nine digits are far above the maximum
_DIGITS = re.compile("0|[1-9][0-9]{0,8}")
_WHOLE_MAX = 10**15
"""Far above every limit; without a bound, 1e999999999 would be written out."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _named(length_max: int) -> AfterValidator:
    """Return a check of a name as it was sent, in the words of the domain."""

    def check(text: str) -> str:
        if found := name_complaint(text, length_max=length_max):
            raise PydanticCustomError("name", "{found}", {"found": found})
        return text

    return AfterValidator(check)


def _formed(pattern: str, complaint: str) -> AfterValidator:
    """Return a check of a text's form that complains in words; the description shows the pattern."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise PydanticCustomError("form", "{complaint}", {"complaint": complaint})
        return text

    return AfterValidator(check)


def _whole(number: object) -> object:
    """Take 2.0 and 2e0 for 2, as JSON Schema does: to JSON all are one number, and some clients know no integers."""
    if isinstance(number, Decimal) and number.copy_abs() <= _WHOLE_MAX and number == number.to_integral_value():
        return int(number)
    return number


def _digits(text: object) -> object:
    """Take a number from the query in one form only; int() would also take 1_0, +5, 05 and digits of other scripts."""
    if isinstance(text, str) and not _DIGITS.fullmatch(text):
        raise PydanticCustomError("digits", "must be a whole number, in digits alone")
    return text


UserId = Annotated[
    str,
    _named(USER_ID_LENGTH_MAX),
    Field(
        json_schema_extra={"minLength": 1, "maxLength": USER_ID_LENGTH_MAX, "pattern": _NAME},
        description="Who orders; visible characters, kept in Unicode's form NFC.",
        examples=["ada"],
    ),
]


class OrderLineBody(_Strict):
    """Quantity of one SKU."""

    sku: Annotated[
        str,
        _named(SKU_LENGTH_MAX),
        Field(json_schema_extra={"minLength": 1, "maxLength": SKU_LENGTH_MAX, "pattern": _NAME}, examples=["tea"]),
    ]
    quantity: Annotated[int, Field(ge=1, le=QUANTITY_MAX, description="Units.", examples=[2]), BeforeValidator(_whole)]


class PlaceOrderBody(_Strict):
    """An order to place."""

    user_id: UserId
    lines: Annotated[
        list[OrderLineBody], Field(min_length=1, max_length=LINES_MAX, description="What is ordered; a SKU once.")
    ]

    @field_validator("lines")
    @classmethod
    def _skus_differ(cls, lines: list[OrderLineBody]) -> list[OrderLineBody]:
        first: dict[str, int] = {}
        for index, line in enumerate(lines):
            sku = composed(line.sku)
            if first.setdefault(sku, index) != index:
                raise PydanticCustomError(
                    "sku_twice", "names one sku twice, at {one} and {two}", {"one": first[sku], "two": index}
                )
        return lines

    def command(self) -> PlaceOrder:
        """Return what the core understands, with names in the spelling that is kept."""
        lines = tuple(OrderLine(composed(line.sku), line.quantity) for line in self.lines)
        return PlaceOrder(composed(self.user_id), lines)

    def as_sent(self) -> PlaceOrder:
        """Return the same with names as they came: as a release before this rule kept them."""
        lines = tuple(OrderLine(line.sku, line.quantity) for line in self.lines)
        return replace(self.command(), user_id=self.user_id, lines=lines)


def _key(text: str) -> str:
    """Return a well-formed key without its quotes: `abc` and `"abc"` are one key."""
    return _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text


_WELL_FORMED_KEY = _formed(
    _KEY,
    f"must come once, as 1 to {KEY_LENGTH_MAX} printable ASCII characters, bare or (a comma always) in double quotes",
)


class PlaceOrderHeaders(BaseModel):
    """What a client may ask for beside the order."""

    model_config = ConfigDict(frozen=True)

    idempotency_key: Annotated[str | SkipJsonSchema[None], _WELL_FORMED_KEY, AfterValidator(_key)] = Field(
        default=None,
        alias="Idempotency-Key",
        json_schema_extra={"pattern": _KEY},
        description="Makes a retry safe: the same key and body give the same order. 1 to 255 printable ASCII"
        " characters, bare or (a comma always) in double quotes; per user; kept for 24 hours at least. The answer to"
        " a repeated key has `Idempotent-Replayed: true`.",
        examples=["7f1c"],
    )
    prefer: str | SkipJsonSchema[None] = Field(
        default=None,
        alias="Prefer",
        description="`wait=N` (RFC 7240): answer with the outcome if it comes within N seconds, 1 to 10; more is cut to"
        " 10. `Preference-Applied` says what was done.",
        examples=["wait=2"],
    )

    @property
    def wait_seconds(self) -> int:
        """Return how long to wait for the outcome, or 0. What is not understood is ignored, as RFC 7240 asks."""
        for preference in (self.prefer or "").split(","):
            token = preference.split(";", 1)[0].strip()
            if token.partition("=")[0].strip().lower() == "wait":  # the first one counts
                found = _WAIT.fullmatch(token)
                return min(int(found[2]), WAIT_SECONDS_MAX) if found else 0
        return 0


class OrderPath(_Strict):
    """Which order."""

    order_id: Annotated[
        str,
        _formed(_UUID, "is not a UUID in canonical text"),
        Field(json_schema_extra={"pattern": _UUID}, description="UUID in canonical text.", examples=[_ORDER_ID]),
    ]


class ListOrdersQuery(BaseModel):
    """Whose orders, and which page of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: UserId
    limit: Annotated[int, BeforeValidator(_digits)] = Field(
        default=PAGE_DEFAULT, ge=1, le=PAGE_MAX, description="Most orders to answer with."
    )
    cursor: Annotated[str | SkipJsonSchema[None], _formed(_CURSOR, "is not the `next` of an earlier page")] = Field(
        default=None, json_schema_extra={"pattern": _CURSOR}, description="`next` of the page before."
    )

    @property
    def user_ids(self) -> frozenset[str]:
        """Return the spellings to look for: what is kept, and what a release before this rule kept."""
        return frozenset({composed(self.user_id), self.user_id})


class LineDocument(BaseModel):
    """Quantity of one SKU."""

    sku: str
    quantity: int


class LackingDocument(BaseModel):
    """The first line that lacked stock, in units."""

    sku: str
    requested: int
    available: int


class Links(BaseModel):
    """Where to look."""

    self: str


class AcceptedDocument(BaseModel):
    """An order was accepted: it is on its way, its outcome will be at `links.self`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_PLACED, "status": "pending"}]})

    order_id: str
    status: Literal["pending"] = "pending"
    links: Links

    @classmethod
    def of(cls, order_id: str) -> Self:
        """Return the answer to an accepted order; it follows from the id alone, so a retry gets it again."""
        return cls(order_id=order_id, links=Links(self=order_address(order_id)))


class OrderDocument(BaseModel):
    """What is known of an order. Times: RFC 3339, UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RESERVED]})

    order_id: str
    user_id: str
    status: Status
    lines: list[LineDocument] = Field(
        description="What was asked for; of a reserved order what is held, which may be less."
    )
    placed_at: str = Field(json_schema_extra={"format": "date-time"})
    decided_at: str | None = Field(json_schema_extra={"format": "date-time"})
    reason: str | None = Field(description="Why it failed: `insufficient_stock`, for example.")
    lacking: LackingDocument | None
    notified: bool
    notified_at: str | None = Field(json_schema_extra={"format": "date-time"})
    links: Links

    @classmethod
    def of(cls, status: OrderStatus) -> Self:
        """Return the document of an order whose lines are known."""
        lacking = status.lacking
        return cls(
            order_id=status.order_id,
            user_id=status.user_id,
            status=status.status,
            lines=[LineDocument(sku=line.sku, quantity=line.quantity) for line in status.lines or ()],
            placed_at=rfc3339(status.placed_at_ms or 0),
            decided_at=rfc3339(status.decided_at_ms) if status.decided_at_ms is not None else None,
            reason=status.reason,
            lacking=lacking
            and LackingDocument(sku=lacking.sku, requested=lacking.requested, available=lacking.available),
            notified=status.notified_at_ms is not None,
            notified_at=rfc3339(status.notified_at_ms) if status.notified_at_ms is not None else None,
            links=Links(self=order_address(status.order_id)),
        )


class OrderPage(BaseModel):
    """One page of a user's orders, newest first."""

    orders: list[OrderDocument]
    next: Annotated[str, Field(pattern=_CURSOR)] | None = Field(
        description="Cursor of the next page; null: this is the last one."
    )


class ReadinessDocument(BaseModel):
    """Whether orders can be taken, and what is missing for it, by name."""

    ready: bool
    missing: list[str]


class FieldErrorDocument(BaseModel):
    """What is wrong with one field."""

    field: str = Field(examples=["lines[0].quantity"])
    message: str


class ProblemDocument(BaseModel):
    """A problem, RFC 9457."""

    type: str = Field(examples=[ProblemType.INVALID_REQUEST.uri])
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldErrorDocument] | None = None
    request_id: str


def order_address(order_id: str) -> str:
    """Return the path of an order's status."""
    return f"/orders/{order_id}"


def rfc3339(epoch_ms: int) -> str:
    """Return a time as text, in UTC with milliseconds."""
    return datetime.fromtimestamp(epoch_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
