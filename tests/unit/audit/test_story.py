"""One order's story: which texts are ids, and what happened when."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from audit.books import Verdict
from audit.readers.tables import DecisionRow, KeyRow, NotificationRow, OrderRows
from audit.story import MalformedIdError, Sighting, Story, parse_order_id, placed_at_ms
from audit.terms import Coordinate
from audit.timeline import timeline

ORDER = "0198c5d2-7c5e-7f10-8a30-5b1f6f0d9c11"
AT = Coordinate("orders.created", 3, 17)
EVENT_AT = Coordinate("inventory.reserved", 5, 9)


def second(number: int) -> datetime:
    return datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)


def ms(number: int) -> int:
    return round(second(number).timestamp() * 1000)


def make_story() -> Story:
    fields = {"placed_at": ms(0), "user_id": "ada", "lines": [{"sku": "tea", "quantity": 2}]}
    return Story(
        order_id=ORDER,
        http=None,
        http_answer="",
        rows=OrderRows(
            decision=DecisionRow(Verdict.RESERVED, None, "e1", AT, (("tea", 2),), 1, second(3)),
            status=None,
            ledger=(NotificationRow("order_confirmed", "log", "sent", "e1", 1, second(5), second(6)),),
            keys=(KeyRow("7f1c", second(1), second(2)),),
        ),
        created=(Sighting(AT, ms(1), None, {}, fields),),
        events=(Sighting(EVENT_AT, ms(4), AT, {}, {}),),
        sent=(Sighting(Coordinate("notification.sent", 5, 2), ms(7), EVENT_AT, {}, {}),),
    )


def test_a_story_is_shown_in_order_of_time() -> None:
    assert [(moment.time_ms, moment.what, moment.detail) for moment in timeline(make_story())] == [
        (ms(0), "placed", "2 x tea for ada"),
        (ms(1), "key", "'7f1c' stored with the event"),
        (ms(1), "record", "orders.created 3@17"),
        (ms(2), "confirmed", "by the broker; the client may be answered 202"),
        (ms(3), "decided", "reserved, owner orders.created 3@17, event e1, replays 1"),
        (ms(4), "event", "inventory.reserved 5@9, answers orders.created 3@17"),
        (ms(5), "claimed", "order_confirmed by log, attempts 1"),
        (ms(6), "sent", "order_confirmed by log"),
        (ms(7), "notified", "notification.sent 5@2"),
    ]


def test_a_reservation_of_a_part_says_of_what() -> None:
    story = make_story()
    assert story.rows.decision is not None
    part = replace(story, rows=replace(story.rows, decision=story.rows.decision._replace(lines=(("tea", 1),))))

    (decided,) = [moment for moment in timeline(part) if moment.what == "decided"]
    assert decided.detail.startswith("reserved (1 x tea), owner")


def test_a_record_that_cannot_be_read_is_reported_as_such() -> None:
    story = replace(make_story(), created=(Sighting(AT, ms(1), None, {}, {"unreadable": "not Avro"}),))

    (record,) = [moment for moment in timeline(story) if moment.what == "record"]
    assert record.detail == "orders.created 3@17 (unreadable: not Avro)"


@pytest.mark.parametrize("text", [ORDER, ORDER.upper(), f" {ORDER}\n", f"{{{ORDER}}}"])
def test_an_id_is_taken_however_it_was_copied(text: str) -> None:
    assert parse_order_id(text) == ORDER


@pytest.mark.parametrize("text", ["", "7f1c", ORDER[:-1], "order 12"])
def test_what_is_no_id_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(MalformedIdError) as refused:
        parse_order_id(text)

    assert refused.value.cure.startswith("take the `order_id`")


def test_the_time_of_placement_stands_in_the_id() -> None:
    assert placed_at_ms(ORDER) == 0x0198C5D27C5E
    assert placed_at_ms("6f0d9c11-0000-4f10-8a30-5b1f6f0d9c11") is None
