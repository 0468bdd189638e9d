"""A real SMTP server in the test process: it keeps what it accepts, and answers as a test says."""

import asyncio
import datetime as dt
import email
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ACCEPTED = "250 OK"
LOGIN = LoginPassword(b"shop", b"secret")


@dataclass(frozen=True, slots=True)
class Mail:
    """One accepted mail, with the addresses of its envelope."""

    sender: str
    recipients: tuple[str, ...]
    content: EmailMessage
    encrypted: bool
    user: str

    @property
    def message_id(self) -> str:
        return str(self.content["Message-ID"])


class MailServer:
    """What the server holds. `replies`: address -> answer to RCPT; `data_reply`: answer to the mail itself.

    `hold` makes it wait before it answers to a mail it has accepted; `release` ends that.
    """

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.tried: list[str] = []
        self.replies: dict[str, str] = {}
        self.data_reply = ACCEPTED
        self._released = threading.Event()
        self._released.set()

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def to(self, address: str) -> list[Mail]:
        return [mail for mail in self.mails if address in mail.recipients]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        self.tried.append(address)
        reply = self.replies.get(address, ACCEPTED)
        if reply == ACCEPTED:
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.data_reply == ACCEPTED:
            user = session.auth_data.decode() if session.authenticated else ""
            content = email.message_from_bytes(envelope.original_content, policy=default)
            self.mails.append(
                Mail(envelope.mail_from, tuple(envelope.rcpt_tos), content, session.ssl is not None, user)
            )
        await asyncio.to_thread(self._released.wait)
        return self.data_reply


@contextmanager
def serving(
    server: MailServer, port: int, *, tls: ssl.SSLContext | None = None, login: bool = False, smtputf8: bool = True
) -> Iterator[None]:
    """Listen on loopback; with `tls` nothing is taken before STARTTLS, with `login` nothing before a login."""
    controller = _Controller(
        server,
        hostname="127.0.0.1",
        port=port,
        enable_SMTPUTF8=smtputf8,
        tls_context=tls,
        require_starttls=tls is not None,
        auth_required=login,
        authenticator=_authenticate,
    )
    controller.start()
    try:
        yield
    finally:
        server.release()
        controller.stop()


class _Session(SMTP):
    """A session that shows the connection it serves."""

    def __init__(self, transports: list[asyncio.WriteTransport], *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transports.append(transport)
        super().connection_made(transport)


class _Controller(Controller):
    """Ends the sessions before the loop that carries them: aiosmtpd leaves their sockets to the garbage collector."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._transports: list[asyncio.WriteTransport] = []
        self._end: asyncio.Task[None] | None = None

    def factory(self) -> SMTP:
        return _Session(self._transports, self.handler, loop=self.loop, **self.SMTP_kwargs)

    def cancel_tasks(self, stop_loop: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - aiosmtpd's signature
        self._end = self.loop.create_task(self._end_sessions())

    async def _end_sessions(self) -> None:
        for transport in self._transports:
            transport.abort()
        sessions = asyncio.all_tasks() - {self._end}
        for session in sessions:
            session.cancel()
        await asyncio.wait([*sessions, asyncio.create_task(asyncio.sleep(0))])
        self.loop.stop()


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data == LOGIN, auth_data=data.login if data == LOGIN else None)


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for 127.0.0.1 that is its own authority, and a server's context that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail of a test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "mail.pem", folder / "mail.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
