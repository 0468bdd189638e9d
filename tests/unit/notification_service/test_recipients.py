"""To whom a mail goes, and that nothing in a user id gets anywhere else."""

import email
from contextlib import closing
from email.policy import SMTP
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.events.notifications import Kind
from common.events.orders import text_complaint
from notification_service.config import NotificationSettings
from notification_service.core.messages import Message
from notification_service.core.recipients import mailbox, recipient
from notification_service.io.senders import End, Letter, SmtpSender, compose

ENCODED_WORDS = [
    "=?us-ascii?q??=",
    "=?us-ascii?q?bob?=",
    "=?utf-8?q?bob=40evil.example?=",
    "=?utf-8?b?YSxi?=",
    "=?us-ascii?q?=FF?=",
    "=?us-ascii?q??=@home.example",
    "=?utf-8?q?=0D=0ABcc:_eve?=",
    "a =?us-ascii?q?bob?= b",
]
"""What headers spell text outside ASCII with (RFC 2047): their library reads it in an address too."""

user_ids = st.text(min_size=1, max_size=128).filter(lambda text: not text_complaint(text, length_max=128))


@pytest.mark.parametrize(
    ("user_id", "address"),
    [
        ("ada", "ada@customers.example"),
        ("ada@home.example", "ada@home.example"),
        ("ada.l+shop@home.co.example", "ada.l+shop@home.co.example"),
        ("ada@localhost", '"ada@localhost"@customers.example'),
        ("ada lovelace", '"ada lovelace"@customers.example'),
        ("a,b <c@d.example>", '"a,b <c@d.example>"@customers.example'),
        ("ada@home.example, eve@evil.example", '"ada@home.example, eve@evil.example"@customers.example'),
    ],
)
def test_user_id_is_the_address_or_names_a_mailbox_of_the_shop(user_id: str, address: str) -> None:
    assert recipient(user_id, customer_domain="customers.example") == address


@pytest.mark.parametrize("user_id", ["ada@Customers.example", "ada", "Ada", "ADA", "ada@CUSTOMERS.EXAMPLE"])
def test_user_ids_of_one_mailbox_are_known_as_such(user_id: str) -> None:
    assert mailbox(user_id, customer_domain="customers.example") == "ada"


@pytest.mark.parametrize("user_id", ["ada@home.example", "ada+shop", "İda", "ada@customers.example.org"])
def test_other_mailboxes_are_not_mixed_up_with_it(user_id: str) -> None:
    assert mailbox(user_id, customer_domain="customers.example") == user_id


@given(user_ids)
@example('"')
@example("\\")
@example("a@b.example>, <c@d.example")
def test_mail_of_any_user_has_one_recipient_and_only_our_headers(user_id: str) -> None:
    address = recipient(user_id, customer_domain="customers.example")
    letter = Letter("order", user_id, "<id@shop.example>", Message(Kind.ORDER_CONFIRMED, "Subject", "Text\n"))
    mail = compose(letter, sender="orders@shop.example", address=address)
    parsed = email.message_from_bytes(mail.as_bytes(policy=SMTP.clone(utf8=True)), policy=SMTP.clone(utf8=True))
    assert [address for _, address in getaddresses([str(mail["To"])])] == [address]
    assert sorted(parsed.keys()) == sorted(
        [
            *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
            *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
        ]
    )


@pytest.mark.parametrize("user_id", ENCODED_WORDS)
def test_user_id_that_would_be_another_address_in_a_header_is_refused__that_letter_alone(user_id: str) -> None:
    """One of them ended the process for ever; the others' mails named another recipient, or two."""
    settings = NotificationSettings(
        kafka_bootstrap="127.0.0.1:1",
        registry_url="http://127.0.0.1:1",
        postgres_url="postgresql://unused@127.0.0.1:1/none",
        notification_channel="smtp",
        smtp_port=1,
    )
    letter = Letter("order", user_id, "<id@shop.example>", Message(Kind.ORDER_CONFIRMED, "Subject", "Text\n"))
    with closing(SmtpSender(settings)) as sender:
        delivery = sender.send(letter)
    assert delivery.end is End.REFUSED
    assert delivery.reply.startswith("no mail can be made of it: ")
    assert user_id not in delivery.reply


def test_line_break_in_a_header_is_refused() -> None:
    letter = Letter(
        "order", "ada", "<id@shop.example>", Message(Kind.ORDER_CONFIRMED, "Hi\r\nBcc: eve@evil.example", "")
    )
    with pytest.raises(ValueError, match="linefeed"):
        compose(letter, sender="orders@shop.example", address="ada@customers.example")
