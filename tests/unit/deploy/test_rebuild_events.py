"""What a record of the topics becomes as a row of the tables, and which records become none."""

from dataclasses import replace

import pytest

from common.events import envelope
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderLine
from deploy.cli.rebuild import _todo
from deploy.rebuild.events import DecisionRow, SentRow, decision_row, sent_row
from deploy.rebuild.run import Rebuilt, Unanswered
from deploy.rebuild.store import units_reserved
from onceloop.errors import Undecodable
from onceloop.records import Headers, InputRecord, Partition
from tests.factories import make_codec

CODEC = make_codec()
ORDER_ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"
EVENT_ID = "01963c1e-7b44-7000-8000-00000000000a"
LINES = (OrderLine("tea", 2), OrderLine("mug", 1))
RESERVED = InventoryReserved(EVENT_ID, ORDER_ID, "ada", LINES, 1_700_000_000_000, 1_700_000_000_007)
FAILED = InventoryFailed(
    EVENT_ID, ORDER_ID, "ada", LINES, Reason.UNKNOWN_SKU, "mug", 1, 0, 1_700_000_000_000, 1_700_000_000_007
)
ORIGIN = envelope.origin_headers(topic="orders.created", partition=3, offset=160)


def record(event: InventoryReserved | InventoryFailed | NotificationSent, headers: Headers = ORIGIN) -> InputRecord:
    return InputRecord(Partition("somewhere", 0), 5, b"ada", CODEC.encode(event), lambda: headers)


def test_event_becomes_the_decision_that_it_was_encoded_from() -> None:
    row = decision_row(CODEC, InventoryReserved, record(RESERVED))
    assert row == DecisionRow(
        order_id=ORDER_ID,
        reason=None,
        event_id=EVENT_ID,
        event=CODEC.encode(RESERVED),
        owner=Partition("orders.created", 3),
        offset=160,
        lines=LINES,
        decided_at_ms=1_700_000_000_007,
    )
    failed = decision_row(CODEC, InventoryFailed, record(FAILED))
    assert (failed.reserved, failed.reason, failed.event) == (False, "unknown_sku", CODEC.encode(FAILED))


def test_reserved_orders_alone_hold_stock() -> None:
    rows = [
        decision_row(CODEC, InventoryReserved, record(RESERVED)),
        decision_row(CODEC, InventoryReserved, record(replace(RESERVED, lines=(OrderLine("tea", 5),)))),
        decision_row(CODEC, InventoryFailed, record(FAILED)),
    ]
    assert units_reserved(iter(rows)) == {"tea": 7, "mug": 1}


@pytest.mark.parametrize(
    ("event", "headers"),
    [
        (replace(RESERVED, event_id="no uuid"), ORIGIN),
        (replace(RESERVED, order_id="no uuid"), ORIGIN),
        (replace(RESERVED, lines=()), ORIGIN),
        (replace(RESERVED, decided_at_ms=2**62), ORIGIN),
        (RESERVED, ()),
        (RESERVED, (*ORIGIN[:2], ("origin_offset", b"-1"))),
        (RESERVED, (*ORIGIN[:2], ("origin_offset", None))),
    ],
)
def test_record_that_no_row_could_hold_is_none(event: InventoryReserved, headers: Headers) -> None:
    with pytest.raises(Undecodable):
        decision_row(CODEC, InventoryReserved, record(event, headers))


def test_notification_becomes_a_row_that_is_sent() -> None:
    sent = NotificationSent(EVENT_ID, ORDER_ID, "ada", Kind.OUT_OF_STOCK, "log", 1_700_000_000_009)
    assert sent_row(CODEC, record(sent)) == SentRow(ORDER_ID, "out_of_stock", "log", "ada", 1_700_000_000_009)
    with pytest.raises(Undecodable):
        sent_row(CODEC, record(replace(sent, order_id="no uuid")))


def test_whatever_is_left_to_do_comes_with_its_way_out() -> None:
    found = Rebuilt(
        short={"tea": 40, "a 'b'": 1},
        unanswered=[Unanswered("orders.created[3]", 200, 160, 40)],
        differing=2,
        unreadable=1,
    )
    todo = list(_todo(found))
    assert [cure for _, cure in todo if not cure] == []
    assert "pipeline stock add tea 40; pipeline stock add 'a '\"'\"'b'\"'\"'' 1" in todo[0][1]
    assert "stands at 200 of orders.created[3], but 40 orders from 160 on" in todo[1][0]
    assert list(_todo(Rebuilt(reserved=3, units={"tea": 3}))) == []
