"""What the judge of `onceloop.testing` says: facts in, findings out."""

from dataclasses import replace

import pytest

from onceloop.testing.facts import DeadLetter, Decided, Ended, Facts, Fed, Place, Published, Written
from onceloop.testing.judge import SHOWN_BYTES, WIDTH, Finding, Rule, judge, shown

INPUT, OUTPUT = "payments", "payments.booked"


def place(offset: int, *, topic: str = INPUT) -> Place:
    return Place(topic, 0, offset)


def booked(key: str, value: str = "") -> Written:
    return Written(OUTPUT, key.encode(), (value or f"booked {key}").encode())


def letter(key: str, value: str, reason: str) -> DeadLetter:
    at = place(0, topic="payments.ledger.dlq")
    return DeadLetter(at, Written(at.topic, key.encode(), value.encode()), reason)


def sound() -> Facts:
    """Two payments, each decided, published and booked once."""
    return Facts(
        fed=[Fed(place(n), key.encode(), f"pay {key}".encode(), n, key.encode()) for n, key in enumerate(("p0", "p1"))],
        published=[Published(place(n, topic=OUTPUT), booked(f"p{n}")) for n in range(2)],
        decided=[Decided(f"p{n}".encode(), place(n), (booked(f"p{n}"),)) for n in range(2)],
        effects=[("anna", 10), ("ben", 20)],
        expected=[("ben", 20), ("anna", 10)],
        dead_letters=[],
        offsets={(INPUT, 0): 2},
        ends={(INPUT, 0): 2},
        ended=[Ended("process 1", 0, frozenset({0}), "")],
    )


def only(facts: Facts, rule: Rule) -> Finding:
    findings = judge(facts)
    assert [finding.rule for finding in findings] == [rule], findings
    return findings[0]


def test_sound_run_breaks_no_rule() -> None:
    assert judge(sound()) == []


def test_record_without_a_decision_is_named() -> None:
    facts = sound()
    found = only(replace(facts, decided=facts.decided[:1], published=facts.published[:1]), Rule.OUTCOME)
    assert found.key == "'p1'"
    assert "payments[0] at 1 has no decision" in found.what


def test_copy_that_is_decided_again_is_two_outcomes() -> None:
    facts = sound()
    copy = Fed(place(2), b"p0", b"pay p0", 0, b"p0")
    again = Decided(b"p0-2", place(2), (booked("p0", "booked p0 at 2"),))
    found = only(
        replace(
            facts,
            fed=[*facts.fed, copy],
            decided=[*facts.decided, again],
            published=[*facts.published, Published(place(2, topic=OUTPUT), again.records[0])],
            offsets={(INPUT, 0): 3},
            ends={(INPUT, 0): 3},
        ),
        Rule.OUTCOME,
    )
    assert found.key == "'p0' and 'p0-2'"
    assert "key function" in found.cause
    assert "'booked p0 at 2'" in found.topic


def test_copy_that_its_original_answers_for_is_silent() -> None:
    facts = sound()
    copy = Fed(place(2), b"p0", b"pay p0", 0, b"p0")
    at_end = {(INPUT, 0): 3}
    assert judge(replace(facts, fed=[*facts.fed, copy], offsets=at_end, ends=at_end)) == []


def test_decision_of_nothing_that_was_fed_is_found() -> None:
    facts = sound()
    assert only(replace(facts, decided=[*facts.decided, Decided(b"x", place(77), ())]), Rule.OUTCOME).key == "'x'"


def test_record_that_is_published_twice_is_found_with_both_places() -> None:
    facts = sound()
    found = only(
        replace(facts, published=[*facts.published, Published(place(9, topic=OUTPUT), booked("p1"))]), Rule.OUTCOME
    )
    assert "published 2 times instead of 1" in found.what
    assert "at 1" in found.topic
    assert "at 9" in found.topic


def test_decision_that_is_not_published_is_found() -> None:
    facts = sound()
    found = only(replace(facts, published=facts.published[:1]), Rule.OUTCOME)
    assert (found.key, found.what, found.topic) == ("'p1'", "decided, but never published", "nothing")


def test_decision_behind_an_open_transaction_says_so() -> None:
    facts = sound()
    found = only(replace(facts, published=facts.published[:1], open_transactions=["payments.booked[0]"]), Rule.OUTCOME)
    assert "still open on payments.booked[0]" in found.cause


def test_other_bytes_than_the_stored_ones_are_shown_side_by_side() -> None:
    facts = sound()
    other = Published(place(1, topic=OUTPUT), booked("p1", "booked p1 at 12:01"))
    found = only(replace(facts, published=[facts.published[0], other]), Rule.BYTES)
    assert found.key == "'p1'"
    assert "'booked p1 at 12:01'" in found.topic
    assert "'booked p1'" in found.database


def test_record_that_no_decision_holds_is_a_producer_of_the_handlers_own() -> None:
    facts = sound()
    own = Published(place(5, topic=OUTPUT), Written(OUTPUT, b"audit", b"hello"))
    found = only(replace(facts, published=[*facts.published, own]), Rule.BYTES)
    assert found.what == "published 1 times and stored nowhere"
    assert "return the records instead" in found.cause


def test_headers_count_as_bytes() -> None:
    facts = sound()
    other = Published(place(1, topic=OUTPUT), booked("p1")._replace(headers=(("trace", b"1"),)))
    assert only(replace(facts, published=[facts.published[0], other]), Rule.BYTES)


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ([("anna", 10), ("ben", 20), ("ben", 20)], "found, not expected: ('ben', 20); expected, not found: nothing"),
        ([("anna", 10)], "found, not expected: nothing; expected, not found: ('ben', 20)"),
    ],
)
def test_effects_are_compared_row_by_row(effects: list[tuple[str, int]], words: str) -> None:
    found = only(replace(sound(), effects=effects), Rule.EFFECTS)
    assert found.database == words
    assert "Write through `db`" in found.cause


def test_offsets_before_the_end_name_the_record_that_is_next() -> None:
    facts = sound()
    found = only(replace(facts, offsets={(INPUT, 0): 1}, waited_seconds=40), Rule.OFFSETS)
    assert found.key == "'p1'"
    assert "ends at 2; the group stands at 1 after 40 s: 1 records are unread" in found.what
    assert "'pay p1'" in found.topic


def test_partition_without_an_offset_is_not_at_its_end() -> None:
    assert "stands at -1" in only(replace(sound(), offsets={}), Rule.OFFSETS).what


def test_good_record_that_was_put_aside_comes_with_the_reason() -> None:
    facts = sound()
    put_aside = letter("p1", "pay p1", "UniqueViolation: booking_pkey")
    found = only(
        replace(facts, decided=facts.decided[:1], published=facts.published[:1], dead_letters=[put_aside]), Rule.POISON
    )
    assert found.what == "a good record was put aside as poison"
    assert "UniqueViolation" in found.cause


def with_poison() -> Facts:
    facts = sound()
    return replace(
        facts,
        fed=[*facts.fed, Fed(place(2), b"bad", b"{", -1, poison=True)],
        dead_letters=[letter("bad", "{", "no JSON")],
        offsets={(INPUT, 0): 3},
        ends={(INPUT, 0): 3},
    )


def test_poison_is_put_aside_once() -> None:
    assert judge(with_poison()) == []


def test_poison_that_is_put_aside_twice_is_found() -> None:
    facts = with_poison()
    found = only(replace(facts, dead_letters=[*facts.dead_letters] * 2), Rule.POISON)
    assert found.what == "put aside 2 times instead of once"


def test_poison_that_is_nowhere_is_found() -> None:
    assert "not on the dead-letter topic" in only(replace(with_poison(), dead_letters=[]), Rule.POISON).what


def test_refusal_of_poison_is_stored_with_its_dead_letter() -> None:
    facts = with_poison()
    refused = Decided(b"bad", place(2), (facts.dead_letters[0].record,), refused=True)
    assert judge(replace(facts, decided=[*facts.decided, refused])) == []


def test_decision_of_poison_is_found() -> None:
    facts = with_poison()
    assert only(replace(facts, decided=[*facts.decided, Decided(b"bad", place(2), ())]), Rule.OUTCOME).key == "'bad'"


def test_process_that_ends_otherwise_is_found_with_what_it_said() -> None:
    found = only(replace(sound(), ended=[Ended("process 1", 70, frozenset({0, 75}), "a traceback")]), Rule.ENDS)
    assert found.what == "ended with 70 instead of 0 or 75"
    assert "a traceback" in found.cause


def test_finding_reads_as_a_whole() -> None:
    lines = str(only(replace(sound(), offsets={(INPUT, 0): 1}), Rule.OFFSETS)).splitlines()
    assert lines[0] == "broken rule: offsets at the end"
    named = [line[2:19].strip(" :") for line in lines[1:] if line[2:19].strip()]
    assert named == ["key", "what", "on the topic", "in the database", "usual cause"]
    assert max(map(len, lines)) <= WIDTH


def test_lines_of_a_process_stay_lines() -> None:
    text = str(only(replace(sound(), ended=[Ended("process 1", 70, frozenset({0}), "one\ntwo")]), Rule.ENDS))
    assert text.splitlines()[-2:] == [" " * 19 + "one", " " * 19 + "two"]


def test_long_bytes_are_cut_and_others_are_shown_as_they_are() -> None:
    assert shown(None) == "none"
    assert shown(b"\xff") == r"b'\xff'"
    assert shown(b"x" * 1000) == repr("x" * SHOWN_BYTES) + "... (1000 bytes)"
