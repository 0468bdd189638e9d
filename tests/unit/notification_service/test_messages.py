"""What customers read, and by what a repetition is recognised."""

import uuid
from dataclasses import replace

import pytest

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, message_id, sent_event_id
from common.events.orders import OrderLine
from notification_service.core.messages import message

EVENT_ID = "01963c1e-7b44-7000-8000-00000000000a"
ORDER_ID = "01963c1e-7b44-7000-8000-0000000000ff"
LINES = (OrderLine("tea", 12), OrderLine("mug", 1))
PLACED_AT_MS = 1_800_000_000_000


def reserved() -> InventoryReserved:
    return InventoryReserved(EVENT_ID, ORDER_ID, "ada", LINES, PLACED_AT_MS, PLACED_AT_MS + 5)


def failed(
    *, reason: Reason = Reason.INSUFFICIENT_STOCK, available: int = 3, lines: tuple[OrderLine, ...] = LINES
) -> InventoryFailed:
    return InventoryFailed(
        EVENT_ID, ORDER_ID, "ada", lines, reason, "tea", 12, available, PLACED_AT_MS, PLACED_AT_MS + 5
    )


def test_confirmation_reads_as_a_shop_would_write_it() -> None:
    written = message(reserved())
    assert (written.kind, written.subject) == (Kind.ORDER_CONFIRMED, "Your order is confirmed")
    assert written.text == (
        "Hello,\n\n"
        "thank you for your order! This is set aside for you:\n\n"
        "    12 x tea\n"
        "     1 x mug\n\n"
        "We are getting it ready now. There is nothing left for you to do.\n\n"
        "Order 01963c1e-7b44-7000-8000-0000000000ff, placed on 2027-01-15 at 08:00 UTC.\n\n"
        "Your shop\n"
    )


def test_out_of_stock_names_what_lacked_and_what_to_do() -> None:
    written = message(failed())
    assert (written.kind, written.subject) == (Kind.OUT_OF_STOCK, "Sorry, we could not fill your order")
    assert written.text == (
        "Hello,\n\n"
        'we are sorry: we could not fill your order. You asked for 12 of "tea", and 3 are left.\n\n'
        "Nothing is set aside and nothing was charged.\n\n"
        "This is what you asked for:\n\n"
        "    12 x tea\n"
        "    and 1 item more\n\n"
        'You can order again with up to 3 of "tea", or leave "tea" out and order the rest.\n\n'
        "Order 01963c1e-7b44-7000-8000-0000000000ff, placed on 2027-01-15 at 08:00 UTC.\n\n"
        "Your shop\n"
    )


@pytest.mark.parametrize(
    ("outcome", "sentences"),
    [
        (failed(available=1), ("and 1 is left.", 'You can order again with 1 of "tea"')),
        (failed(available=0), ("and it is sold out.", "You can try again once it is back")),
        (failed(reason=Reason.UNKNOWN_SKU), ("We do not carry item 1 of it.", "Please check its name and order again")),
        (failed(reason=Reason.OTHER), ("It failed because of item 1 of it.", "You can try again a little later")),
        (failed(lines=(OrderLine("tea", 12),)), ("or look at what else we have.",)),
    ],
    ids=["one left", "none left", "unknown sku", "reason of a newer writer", "no other line to order"],
)
def test_out_of_stock_fits_the_case(outcome: InventoryFailed, sentences: tuple[str, ...]) -> None:
    text = message(outcome).text
    assert all(sentence in text for sentence in sentences), text


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_SKU, Reason.OTHER, Reason.INSUFFICIENT_STOCK])
def test_no_text_of_an_order_is_quoted_unless_the_shop_carries_it(reason: Reason) -> None:
    """Red before: anyone could order 64 characters and have them mailed to the user that the order named."""
    lines = (OrderLine("mug", 1), OrderLine("tea", 12), OrderLine("win a prize at evil.example", 1))
    if reason is not Reason.INSUFFICIENT_STOCK:
        lines = (lines[0], OrderLine("win a prize at evil.example", 1), lines[1])
    outcome = replace(failed(reason=reason, lines=lines), sku=lines[1].sku)
    text = message(outcome).text
    assert "evil" not in text
    assert "1 x mug" in text
    assert "item 2" in text or "12 x tea" in text


def test_text_is_ascii_where_the_order_is__no_mail_needs_encoding() -> None:
    assert (message(reserved()).text + message(failed()).text).isascii()


def test_message_id_follows_from_event_and_channel_alone() -> None:
    assert message_id(EVENT_ID, channel="smtp", domain="shop.example") == f"<{EVENT_ID}.smtp@shop.example>"


def test_event_id_of_a_notification_is_stable_and_differs_by_channel() -> None:
    smtp, log = sent_event_id(EVENT_ID, channel="smtp"), sent_event_id(EVENT_ID, channel="log")
    assert smtp == sent_event_id(EVENT_ID, channel="smtp")
    assert smtp != log
    assert uuid.UUID(smtp).version == 5
