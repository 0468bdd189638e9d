"""What a broker answers to a move of a partition is read as the protocol guide has it."""

import struct

import pytest

from chaos.wire.reassign import error_in

TOPIC = b"orders.created"


def answer(*, whole: int = 0, why: bytes = b"", one: int = 0) -> bytes:
    """Return an answer of version 0 about one partition, or about none if the whole was refused."""
    head = struct.pack(">iBi", 1, 0, 0) + struct.pack(">h", whole) + bytes([len(why) + 1 if why else 0]) + why
    if whole:
        return head + b"\x01\0"
    partition = struct.pack(">ih", 6, one) + b"\0\0"
    return head + b"\x02" + bytes([len(TOPIC) + 1]) + TOPIC + b"\x02" + partition + b"\0\0"


@pytest.mark.parametrize("one", [0, 85])
def test_the_error_of_the_partition_is_found(one: int) -> None:
    assert error_in(answer(one=one)) == one


def test_the_error_of_the_whole_comes_first() -> None:
    assert error_in(answer(whole=41, why=b"not the controller")) == 41
