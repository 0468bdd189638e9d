from onceloop import ownership
from onceloop.ownership import Item, Known, Row
from onceloop.records import InputRecord, OutputRecord, Partition
from onceloop.stored_records import pack

AT = Partition("payments", 0)
BOOKED = OutputRecord("booked", b"k", b"v")


def item(key: bytes, offset: int) -> Item:
    return Item(InputRecord(AT, offset, key, b""), key)


def row(key: bytes, offset: int, *, refused: bool = False) -> Row:
    return Row(key, (AT, offset), pack([BOOKED]), refused)


def test_first_record_of_a_key_is_decided_and_no_other() -> None:
    first, second, other = item(b"a", 1), item(b"a", 2), item(b"b", 3)
    assert ownership.undecided([first, second, other], Known.of([])) == [first, other]


def test_decided_key_is_not_decided_again() -> None:
    assert ownership.undecided([item(b"a", 5)], Known.of([row(b"a", 1)])) == []


def test_owner_repeats_its_records_and_a_copy_publishes_nothing() -> None:
    known = Known.of([row(b"a", 1)])
    assert ownership.replayed([item(b"a", 1), item(b"a", 2)], known) == {(AT, 1): (BOOKED,)}


def test_refused_record_repeats_its_letter_and_leaves_its_key_to_the_next() -> None:
    refusal = row(b"a", 1, refused=True)
    refused, later = item(b"a", 1), item(b"a", 2)
    assert ownership.undecided([refused, later], Known.of([refusal])) == [later]
    assert ownership.replayed([refused], Known.of([refusal])) == {(AT, 1): (BOOKED,)}
    both = Known.of([refusal, row(b"a", 2)])
    assert ownership.undecided([refused, later, item(b"a", 3)], both) == []
    assert ownership.replayed([refused, later, item(b"a", 3)], both) == {(AT, 1): (BOOKED,), (AT, 2): (BOOKED,)}


def test_part_is_split_around_the_culprit() -> None:
    part = [item(b"%d" % n, n) for n in range(5)]
    assert ownership.split(part, 2) == [part[:2], [part[2]], part[3:]]
    assert ownership.split(part, 0) == [[part[0]], part[1:]]
    assert ownership.split(part, None) == [part[:2], part[2:]]
