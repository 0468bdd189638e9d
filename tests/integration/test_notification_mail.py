"""The mail channel against a real SMTP server in this process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from common.events.notifications import Kind
from notification_service.config import NotificationSettings
from notification_service.core.messages import Message
from notification_service.io import senders
from notification_service.io.senders import Delivery, End, Letter, SmtpSender
from onceloop.errors import Busy
from tests.mail import MailServer, certificate, serving
from tests.processes import Processes

OpenSender = Callable[..., SmtpSender]
SENT = Delivery(End.SENT)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with Processes(tmp_path) as processes:
        yield processes.free_port()


@pytest.fixture
def open_sender(port: int) -> Iterator[Callable[..., SmtpSender]]:
    with ExitStack() as opened:

        def make(**more: Any) -> SmtpSender:
            settings = NotificationSettings(
                kafka_bootstrap="127.0.0.1:1",
                registry_url="http://127.0.0.1:1",
                postgres_url="postgresql://unused@127.0.0.1:1/none",
                smtp_port=port,
                **more,
            )
            return opened.enter_context(closing(SmtpSender(settings)))

        yield make


def make_letter(user_id: str = "ada") -> Letter:
    return Letter("an order", user_id, "<an-id@shop.example>", Message(Kind.ORDER_CONFIRMED, "Süß", "Hello\n.\nyou\n"))


def test_mail_arrives_as_it_was_written(open_sender: OpenSender, port: int) -> None:
    server = MailServer()
    with serving(server, port):
        assert open_sender().send(make_letter()) == SENT
    (mail,) = server.mails
    assert (mail.sender, mail.recipients) == ("orders@shop.example", ("ada@customers.example",))
    assert (mail.message_id, mail.content["Subject"]) == ("<an-id@shop.example>", "Süß")
    assert mail.content["Auto-Submitted"] == "auto-generated"
    assert mail.content.get_content().replace("\r\n", "\n") == "Hello\n.\nyou\n"


def test_one_connection_serves_many_mails_and_is_made_again_when_it_broke(open_sender: OpenSender, port: int) -> None:
    server, sender = MailServer(), open_sender()
    with serving(server, port):
        assert [sender.send(make_letter(user)) for user in ("ada", "bob")] == [SENT, SENT]
        first = sender._connection
    with serving(server, port):
        assert sender.send(make_letter("eve")) == SENT
    assert sender._connection is not first
    assert [mail.recipients[0].partition("@")[0] for mail in server.mails] == ["ada", "bob", "eve"]


def test_password_travels_after_starttls_alone(open_sender: OpenSender, port: int, tmp_path: Path) -> None:
    server, (authority, context) = MailServer(), certificate(tmp_path)
    sender = open_sender(
        smtp_tls="starttls", smtp_ca_file=str(authority), smtp_user="shop", smtp_password=SecretStr("secret")
    )
    with serving(server, port, tls=context, login=True):
        assert sender.send(make_letter()) == SENT
    assert [(mail.encrypted, mail.user) for mail in server.mails] == [(True, "shop")]


def test_server_of_an_unknown_authority_gets_neither_password_nor_mail(
    open_sender: OpenSender, port: int, tmp_path: Path
) -> None:
    server, (_authority, context) = MailServer(), certificate(tmp_path)
    sender = open_sender(smtp_tls="starttls", smtp_user="shop", smtp_password=SecretStr("secret"))
    with serving(server, port, tls=context, login=True), pytest.raises(Busy, match="SSLCertVerificationError"):
        sender.send(make_letter())
    assert not server.tried


def test_server_without_starttls_gets_neither_password_nor_mail(open_sender: OpenSender, port: int) -> None:
    server = MailServer()
    with serving(server, port), pytest.raises(Busy, match="SMTPNotSupportedError"):
        open_sender(smtp_tls="starttls", smtp_user="shop", smtp_password=SecretStr("secret")).send(make_letter())
    assert not server.tried


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        ("550 5.1.1 no such mailbox", Delivery(End.REFUSED, "reply 550")),
        ("452 4.2.2 mailbox full", Delivery(End.PUT_OFF, "reply 452")),
        ("450 4.7.1 greylisted", Delivery(End.PUT_OFF, "reply 450")),
    ],
)
def test_answer_to_the_recipient_judges_the_letter_alone(
    open_sender: OpenSender, port: int, reply: str, end: Delivery
) -> None:
    server, sender = MailServer(), open_sender()
    server.replies["eve@customers.example"] = reply
    with serving(server, port):
        assert [sender.send(make_letter(user)) for user in ("ada", "eve", "bob")] == [SENT, end, SENT]


def test_answer_to_the_mail_itself_judges_it_too(open_sender: OpenSender, port: int) -> None:
    server = MailServer()
    server.data_reply = "554 5.7.1 looks like spam"
    with serving(server, port):
        assert open_sender().send(make_letter()) == Delivery(End.REFUSED, "reply 554")


def test_address_outside_ascii_is_refused_by_a_server_that_takes_none(open_sender: OpenSender, port: int) -> None:
    server = MailServer()
    with serving(server, port, smtputf8=False):
        assert open_sender().send(make_letter("jürgen")).end is End.REFUSED
        assert not server.tried
    with serving(server, port):
        assert open_sender().send(make_letter("jürgen")) == SENT
    assert server.mails[0].recipients == ("jürgen@customers.example",)


def test_server_that_is_away_makes_the_channel_busy(open_sender: OpenSender) -> None:
    with pytest.raises(Busy, match="ConnectionRefusedError"):
        open_sender().send(make_letter())


def test_server_that_says_421_makes_the_channel_busy__no_letter_is_refused_for_it(
    open_sender: OpenSender, port: int
) -> None:
    server = MailServer()
    server.replies["ada@customers.example"] = "421 4.3.2 going away"
    with serving(server, port), pytest.raises(Busy, match="mail server"):
        open_sender().send(make_letter())
    assert len(server.tried) == senders.ATTEMPTS_MAX


def test_lost_answer_repeats_the_mail_under_the_same_message_id(open_sender: OpenSender, port: int) -> None:
    """The server accepts and answers later than we wait: whether it was sent is unknown, so the mail goes out again."""
    server, sender = MailServer(), open_sender(smtp_answer_seconds=1.0)
    server.hold()
    with serving(server, port):
        with pytest.raises(Busy, match="SMTPServerDisconnected"):
            sender.send(make_letter())
        server.release()
        assert sender.send(make_letter()) == SENT
    assert len(server.mails) > 1
    assert {mail.message_id for mail in server.mails} == {"<an-id@shop.example>"}
