"""Each rule of the guarantees has its tests, and the page that lists them is the one that would be written now."""

from tools.proofs import HAZARDS, PAGE, page, proofs, rules

UNUSED_HAZARDS = {39, 48}


def test_page_is_what_would_be_written_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make proofs"


def test_every_rule_has_its_tests_and_no_other_has() -> None:
    assert {section: list(named) for section, named in proofs().items()} == rules()
    assert [rule for named in proofs().values() for rule, tests in named.items() if not tests] == []


def test_there_are_many() -> None:
    assert len(rules()) == 13
    assert sum(len(tests) for named in proofs().values() for tests in named.values()) > 150


def test_every_hazard_is_provoked_by_a_test() -> None:
    numbers = [int(number.strip(" H")) for rule in proofs()[HAZARDS] for number in rule.split(",")]
    assert sorted(numbers) == [number for number in range(1, max(numbers) + 1) if number not in UNUSED_HAZARDS]
    assert all(any("::" in test for test in tests) for tests in proofs()[HAZARDS].values())
