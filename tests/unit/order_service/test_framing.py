"""How much of a request has come, by any cut through it."""

import pytest

from order_service.core.framing import NOTHING, frame

BODY = b'{"user_id": "u"}'
PLAIN = b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"
SIZED = b"POST /orders HTTP/1.1\r\nhost: t\r\ncontent-LENGTH : %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = (
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n{ \r\n\r\nC\r\n1234567890ab\r\n0\r\nT: x\r\n\r\n"
)


@pytest.mark.parametrize("request_bytes", [PLAIN, SIZED, CHUNKED])
def test_only_the_last_byte_makes_a_request_whole(request_bytes: bytes) -> None:
    cuts = [frame(request_bytes[:size]).missing for size in range(len(request_bytes) + 1)]
    assert all(missing > 0 for missing in cuts[:-1])
    assert cuts[-1] == 0
    assert all(size + missing <= len(request_bytes) for size, missing in enumerate(cuts))


@pytest.mark.parametrize("request_bytes", [PLAIN, SIZED, CHUNKED])
def test_what_was_found_of_the_first_bytes_changes_nothing_but_the_work(request_bytes: bytes) -> None:
    before = NOTHING
    for size in range(len(request_bytes) + 1):
        found = frame(request_bytes[:size], before)
        assert found == frame(request_bytes[:size])
        before = found


def test_body_in_many_chunks_is_not_read_again_from_its_start() -> None:
    """Red before: each byte of a slow client cost a walk over all chunks that had come, in the thread of everybody."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"1\r\nx\r\n" * 10_000
    assert frame(head + chunks).next_chunk == len(chunks)


@pytest.mark.parametrize("request_bytes", [PLAIN, SIZED, CHUNKED])
def test_what_follows_a_request_takes_nothing_from_it(request_bytes: bytes) -> None:
    assert frame(request_bytes + b"GET /").missing == 0


def test_length_of_the_body_is_known_from_its_head() -> None:
    head = SIZED.partition(BODY)[0]
    found = frame(head + BODY[:3])
    assert (found.head, found.body, found.missing) == (len(head), len(BODY), len(BODY) - 3)


def test_client_that_expects_to_be_asked_for_the_body_is_seen_until_it_sends_some() -> None:
    head = b"POST /orders HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    assert [frame(head + body).expects for body in (b"", b"{", b"{}")] == [True, False, False]
    assert not frame(PLAIN).expects


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000),
        b"\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
    ],
)
def test_what_the_parser_refuses_at_once_is_not_waited_for(request_bytes: bytes) -> None:
    assert frame(request_bytes).missing == 0
