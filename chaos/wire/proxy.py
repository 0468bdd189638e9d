"""Proxies that know their protocol: Kafka by api key, PostgreSQL by statement. Plain text only.

A Kafka client learns from the broker where to connect; the proxy puts its own port there, so that no connection goes
round it. Source of the formats: the Kafka protocol guide; PostgreSQL, "Frontend/Backend Protocol".
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from itertools import product

from chaos.wire.relay import Direction, Frame, Framing, Relay

PRODUCE = 0
FETCH = 1
METADATA = 3
FIND_COORDINATOR = 10
INIT_PRODUCER_ID = 22
ADD_PARTITIONS_TO_TXN = 24
ADD_OFFSETS_TO_TXN = 25
END_TXN = 26
TXN_OFFSET_COMMIT = 28
DESCRIBE_CLUSTER = 60

COMMIT = "COMMIT"
CALL_SECONDS = 10.0

_NAME_ADDRESSES = frozenset({METADATA, FIND_COORDINATOR, DESCRIBE_CLUSTER})
_HOSTS = (b"127.0.0.1", b"localhost")
_END_TXN_FLEXIBLE = 3
_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


class KafkaProxy(Relay):
    """Between clients and one broker on loopback. Rules go by api key; an EndTxn's detail is `commit` or `abort`."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        super().__init__((host, int(port)))
        self.misdirected: dict[str, int] = {}
        """Client id -> the port that such clients are given for their group's coordinator: a wrong answer."""
        self.elsewhere: list[int] = []
        """The port that all clients are given for the broker, if there is one: a wrong answer too."""
        self._beside: dict[int, int] = {}

    def stand_beside(self, other: "KafkaProxy") -> None:
        """Send clients to the other proxy where an answer names the broker behind that."""
        self._beside[other.upstream[1]] = other.port

    def framing(self, connection: int) -> Framing:
        """Read api keys, and match answers to them by correlation id."""
        return _KafkaFraming(connection, self)

    def shown(self, answer: bytes, *, to: str, of_group: bool, of_topics: bool) -> bytes:
        """Return an answer with the proxy's port in place of the broker's, as this client is to see it."""
        port = self.misdirected.get(to, self.port) if of_group else self.port
        if of_topics and self.elsewhere:
            port = self.elsewhere[0]
        ports = {self.upstream[1]: port, **self._beside}
        for host, (broker, proxy) in product(_HOSTS, ports.items()):  # only the port differs, so no length does
            answer = answer.replace(host + struct.pack(">i", broker), host + struct.pack(">i", proxy))
        return answer

    def replay(self, frame: Frame) -> bytes:
        """Send a request once more on a connection of its own, as a late packet; return the answer without its size."""
        return ask(self.upstream, frame.data)


def ask(broker: tuple[str, int], request: bytes) -> bytes:
    """Send a request with its size on a connection of its own; return the answer without its size. Raises OSError."""
    with socket.create_connection(broker, CALL_SECONDS) as connection, connection.makefile("rb") as answers:
        connection.sendall(request)
        return answers.read(struct.unpack(">i", answers.read(4))[0])


def end_txn_error(answer: bytes) -> int:
    """Return the error code in the answer to an EndTxn, of any version that librdkafka sends."""
    return int(struct.unpack_from(">h", answer, 8)[0])  # behind correlation id and throttle time


@dataclass(frozen=True, slots=True)
class _Asked:
    api_key: int
    client: str
    of_group: bool = False


class _KafkaFraming:
    """One connection to a broker."""

    def __init__(self, connection: int, proxy: KafkaProxy) -> None:
        self._connection, self._proxy = connection, proxy
        self._asked: dict[int, _Asked] = {}

    async def greet(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Settle nothing: Kafka begins with a request."""

    async def request(self, client: asyncio.StreamReader) -> Frame:
        """Size, api key, version, correlation id, client id."""
        data = await _sized(client)
        api_key, version, correlation, length = struct.unpack_from(">hhih", data, 4)
        name = data[14 : 14 + max(length, 0)].decode()
        of_group = api_key == FIND_COORDINATOR and data[-1] == 0  # the last byte up to version 2: group or transaction
        self._asked[correlation] = _Asked(api_key, name, of_group)
        detail = ""
        if api_key == END_TXN:
            detail = "commit" if data[-2 if version >= _END_TXN_FLEXIBLE else -1] else "abort"
        return Frame(self._connection, Direction.REQUEST, api_key, detail, name, data)

    async def response(self, server: asyncio.StreamReader) -> Frame:
        """Size, correlation id; addresses of the broker become the proxy's."""
        data = await _sized(server)
        asked = self._asked.pop(struct.unpack_from(">i", data, 4)[0], _Asked(-1, ""))
        if asked.api_key in _NAME_ADDRESSES:
            of_topics = asked.api_key == METADATA
            data = self._proxy.shown(data, to=asked.client, of_group=asked.of_group, of_topics=of_topics)
        return Frame(self._connection, Direction.RESPONSE, asked.api_key, "", asked.client, data)


async def _sized(stream: asyncio.StreamReader) -> bytes:
    size = await stream.readexactly(4)
    return size + await stream.readexactly(struct.unpack(">i", size)[0])


class PostgresProxy(Relay):
    """Between clients and PostgreSQL. Rules go by `COMMIT` or a message's type letter; `detail` is the statement."""

    def framing(self, connection: int) -> Framing:
        """Follow prepared statements and portals, so that a COMMIT is known however it is sent."""
        return _PostgresFraming(connection)


class _PostgresFraming:
    """One session."""

    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._client = ""
        self._startup = b""
        self._statements: dict[str, str] = {}
        self._portals: dict[str, str] = {}

    async def greet(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Refuse encryption, which would blind the proxy; keep the start-up message for the server."""
        while True:
            size = await client.readexactly(4)
            self._startup = size + await client.readexactly(struct.unpack(">i", size)[0] - 4)
            if struct.unpack_from(">i", self._startup, 4)[0] not in {_SSL_REQUEST, _GSS_REQUEST}:
                break
            answer.write(b"N")
        words = self._startup[8:].decode(errors="replace").split("\0")
        self._client = dict(zip(words[::2], words[1::2], strict=False)).get("application_name", "")

    async def request(self, client: asyncio.StreamReader) -> Frame:
        """Type letter, size, body; before all others the start-up message."""
        if self._startup:
            data, self._startup = self._startup, b""
            return Frame(self._connection, Direction.REQUEST, "startup", "", self._client, data)
        data = await _typed(client)
        letter, statement = chr(data[0]), self._statement(chr(data[0]), data[5:])
        runs = letter in "QE" and statement.strip().rstrip(";").upper() == COMMIT
        return Frame(self._connection, Direction.REQUEST, COMMIT if runs else letter, statement, self._client, data)

    async def response(self, server: asyncio.StreamReader) -> Frame:
        """Type letter, size, body."""
        data = await _typed(server)
        letter = chr(data[0])
        tag = data[5:-1].decode() if letter == "C" else ""
        kind = COMMIT if tag == COMMIT else letter
        return Frame(self._connection, Direction.RESPONSE, kind, tag, self._client, data)

    def _statement(self, letter: str, body: bytes) -> str:
        """Return the statement that a message is about, if it is about one."""
        words = body.split(b"\0", 2)
        match letter:
            case "Q":
                return words[0].decode()
            case "P":
                statement = self._statements[words[0].decode()] = words[1].decode()
                return statement
            case "B":
                statement = self._statements.get(words[1].decode(), "")
                self._portals[words[0].decode()] = statement
                return statement
            case "E":
                return self._portals.get(words[0].decode(), "")
        return ""


async def _typed(stream: asyncio.StreamReader) -> bytes:
    head = await stream.readexactly(5)
    return head + await stream.readexactly(struct.unpack_from(">i", head, 1)[0] - 4)
