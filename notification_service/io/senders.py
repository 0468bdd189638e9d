"""Channels: how a message reaches a customer. `log` writes a line, `smtp` hands a mail to a server.

A sender says what became of one letter as a value; what is wrong with the channel as a whole is `Busy`. Mail joins no
transaction: a server may have accepted a mail whose answer was lost, so it is sent again under the same Message-ID.
"""

import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from enum import Enum, auto
from typing import Protocol

import stamina

from common.log import get_logger
from notification_service.config import NotificationSettings
from notification_service.core.messages import Message
from notification_service.core.recipients import recipient
from onceloop.errors import Busy

CONNECT_SECONDS = 5.0
ATTEMPTS_MAX = 3
ATTEMPTS_SECONDS = 10.0

_GOING_AWAY = 421
_PERMANENT = 500

log = get_logger()


@dataclass(frozen=True, slots=True)
class Letter:
    """One message on its way to one user. `message_id` stays the same if it is sent again."""

    order_id: str
    user_id: str
    message_id: str
    message: Message


class End(Enum):
    """What became of a letter."""

    SENT = auto()
    PUT_OFF = auto()
    """This recipient cannot be reached now (a full mailbox, greylisting); others can."""
    REFUSED = auto()
    """This letter will never be accepted."""
    OVER_LIMIT = auto()
    """This recipient got too many already; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a letter; `reply` is the server's code, or what is wrong."""

    end: End
    reply: str = ""


class Sender(Protocol):
    """One channel."""

    @property
    def channel(self) -> str:
        """Return its name in the ledger."""

    @property
    def records_max(self) -> int:
        """Return how many records to take at once: the time of a batch is bounded by it."""

    @property
    def together(self) -> int:
        """Return how many letters leave before their marks are stored: what a crash between the two repeats."""

    def send(self, letter: Letter) -> Delivery:
        """Send one letter. Raises Busy if the channel does not work now: nothing is wrong with the letter then."""

    def close(self) -> None:
        """Let go of the channel."""


class LogSender:
    """Write the message to the log, for development and demonstrations. A repeated line costs nothing."""

    channel = "log"
    records_max = 500
    together = 100

    def send(self, letter: Letter) -> Delivery:
        """Write one line. The user id may be an address, so it is left out."""
        log.info(
            "message.written",
            order_id=letter.order_id,
            kind=letter.message.kind.value,
            subject=letter.message.subject,
            text=letter.message.text,
        )
        return Delivery(End.SENT)

    def close(self) -> None:
        """Do nothing."""


class SmtpSender:
    """Hand mails to a server over one connection, which is kept, and reopened whenever something went wrong."""

    channel = "smtp"
    records_max = 20
    together = 1  # no customer gets a second mail because of another's

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings
        self._connection: smtplib.SMTP | None = None

    def send(self, letter: Letter) -> Delivery:
        """Send one mail, in up to 3 attempts. Raises Busy if the server is away, refuses us, or offers no TLS."""
        try:
            address = recipient(letter.user_id, customer_domain=self._settings.mail_customer_domain)
            mail = compose(letter, sender=self._settings.mail_from, address=address)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - no outage comes out of here, and the library's parser raises anything
            log.warning("mail.not_made", order_id=letter.order_id, error=type(error).__name__)
            return Delivery(End.REFUSED, f"no mail can be made of it: {type(error).__name__}")
        delivery = Delivery(End.SENT)
        try:
            for attempt in stamina.retry_context(
                on=_Unreachable, attempts=ATTEMPTS_MAX, timeout=ATTEMPTS_SECONDS, wait_max=1.0, wait_jitter=0.1
            ):
                with attempt:
                    delivery = self._hand_over(mail, address)
        except _Unreachable as error:
            raise Busy(f"mail server: {error}") from error
        return delivery

    def close(self) -> None:
        """Hang up, without waiting for the server's farewell."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _hand_over(self, mail: EmailMessage, address: str) -> Delivery:
        """Go through one SMTP transaction. Only an answer to the recipient or to the mail judges the letter."""
        try:
            connection = self._connected()
        except (OSError, ValueError) as error:  # smtplib's errors are OSErrors, those of certificates ValueErrors
            raise self._hung_up(error) from error
        try:
            connection.send_message(mail, from_addr=self._settings.mail_from, to_addrs=[address])
        except smtplib.SMTPRecipientsRefused as error:
            return self._judged(error.recipients[address][0], error)
        except smtplib.SMTPDataError as error:
            return self._judged(error.smtp_code, error)
        except smtplib.SMTPNotSupportedError:
            return Delivery(End.REFUSED, "the server takes ASCII addresses only")
        except OSError as error:
            raise self._hung_up(error) from error
        return Delivery(End.SENT)

    def _judged(self, code: int, error: smtplib.SMTPException) -> Delivery:
        """Return what a reply (RFC 5321, section 4.2) means for the letter; 421 means that the server goes away."""
        if code == _GOING_AWAY:
            raise self._hung_up(error) from error
        return Delivery(End.PUT_OFF if code < _PERMANENT else End.REFUSED, f"reply {code}")

    def _hung_up(self, cause: Exception) -> "_Unreachable":
        """Hang up, and return the reason without the server's text, which may name an address."""
        self.close()
        code = getattr(cause, "smtp_code", "")
        return _Unreachable(f"{type(cause).__name__} {code}".rstrip())

    def _connected(self) -> smtplib.SMTP:
        """Return the connection, upgraded to TLS and logged in as the settings say."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> smtplib.SMTP:
        settings, name = self._settings, self._settings.mail_domain  # a name of ours spares a look-up of the host's
        if settings.smtp_tls == "implicit":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.smtp_host, settings.smtp_port, name, timeout=CONNECT_SECONDS, context=self._trust()
            )
        else:
            connection = smtplib.SMTP(settings.smtp_host, settings.smtp_port, name, timeout=CONNECT_SECONDS)
        self._connection = connection  # from here on `close` hangs it up
        if settings.smtp_tls == "starttls":
            connection.starttls(context=self._trust())
        if settings.smtp_user:
            connection.login(settings.smtp_user, settings.secret("smtp_password"))
        if connection.sock is not None:
            # A server that scans mails answers late; hanging up before would have it deliver the same mail twice.
            connection.sock.settimeout(settings.smtp_answer_seconds)
        return connection

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.smtp_ca_file or None)


class _Unreachable(Exception):  # noqa: N818 - a state of the server
    """The server is away or refuses us. What was sent may have been accepted."""


def compose(letter: Letter, *, sender: str, address: str) -> EmailMessage:
    """Return the mail. The headers' library refuses line breaks, so no value can add a header.

    It reads an encoded word (RFC 2047) wherever one stands, in an address too, and raises IndexError where that leaves
    nothing: raises ValueError for an address that would be another one in the header, and whatever the library does.
    """
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = address
    mail["Subject"] = letter.message.subject
    mail["Date"] = datetime.now(UTC)
    mail["Message-ID"] = letter.message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notice comes back
    mail.set_content(letter.message.text)
    if [found.addr_spec for found in mail["To"].addresses] != [address]:
        raise ValueError("the address is another one in a header")
    mail.as_bytes(
        policy=SMTP.clone(utf8=not address.isascii())
    )  # what cannot be written is found here, not on the wire
    return mail
