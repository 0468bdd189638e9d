"""No answer leads a client round the proxies, whichever of two brokers it names."""

import asyncio
import struct

from chaos.wire.proxy import METADATA, KafkaProxy

CORRELATION = 7


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def address(port: int) -> bytes:
    return b"127.0.0.1" + struct.pack(">i", port)


def test_an_answer_that_names_two_brokers_names_both_proxies() -> None:
    asked = struct.pack(">hhih", METADATA, 1, CORRELATION, 4) + b"user" + b"\0"
    answer = struct.pack(">i", CORRELATION) + address(9092) + address(9093) + address(9094)

    async def through(first: KafkaProxy) -> bytes:
        framing, client, server = first.framing(1), asyncio.StreamReader(), asyncio.StreamReader()
        client.feed_data(frame(asked))
        server.feed_data(frame(answer))
        await framing.request(client)
        return (await framing.response(server)).data

    with KafkaProxy("127.0.0.1:9092") as first, KafkaProxy("127.0.0.1:9093") as second:
        first.stand_beside(second)
        answer = struct.pack(">i", CORRELATION) + address(first.port) + address(second.port) + address(9094)
        assert asyncio.run(through(first)) == frame(answer)
