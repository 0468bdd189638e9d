import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceloop.records import OutputRecord
from onceloop.stored_records import pack, unpack

PARTS = st.none() | st.binary(max_size=64)
RECORDS = st.builds(
    OutputRecord,
    topic=st.text(max_size=20),
    key=PARTS,
    value=PARTS,
    headers=st.lists(st.tuples(st.text(max_size=10), PARTS), max_size=3).map(tuple),
    is_dead_letter=st.booleans(),
)


@given(st.lists(RECORDS, max_size=4).map(tuple))
def test_records_come_back_to_the_byte(records: tuple[OutputRecord, ...]) -> None:
    assert unpack(pack(records)) == records


def test_bytes_of_today_are_read_by_every_later_release() -> None:
    stored = bytes.fromhex(
        "01" + "0003" + "00000001" + "ffffffff" + "00" + "0001" + "743d31" + "6b" + "0001" + "00000000" + "68"
    )
    assert unpack(stored) == (OutputRecord("t=1", b"k", None, (("h", b""),)),)
    assert pack(unpack(stored)) == stored


def test_text_is_no_part_of_a_record() -> None:
    with pytest.raises(TypeError, match="str where bytes or None belong"):
        pack([OutputRecord("topic", "key", b"")])  # type: ignore[arg-type]


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        unpack(b"\x02")
