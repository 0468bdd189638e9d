"""Names as they come in: one spelling, and nothing invisible."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events.names import composed, name_complaint
from common.events.orders import text_complaint

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_composed_and_decomposed_are_one_name() -> None:
    assert composed(DECOMPOSED) == composed(COMPOSED) == COMPOSED
    assert name_complaint(DECOMPOSED, length_max=64) == name_complaint(COMPOSED, length_max=64) == ""


@pytest.mark.parametrize(
    "name",
    [
        "tea",
        "green tea, 2nd flush",
        "x" * 64,
        "\u0646\u0627\u0645\u0647\u200c\u0646\u06af\u0627\u0631",  # Persian: a plain letter stays apart from the next
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0d38\u0d41\u0d30\u0d47\u0d37\u0d4d\u200c",  # Malayalam: ends with a visible virama
        "\u0d05\u0d28\u0d3f\u0d32\u0d4d\u200d",  # and with a chillu, as it was written before Unicode 5.1
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3 \u0dbd\u0d82\u0d9a\u0dcf",  # Sri Lanka in Sinhala
        "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",  # a family
        "\U0001f469\U0001f3fd\u200d\U0001f680",  # an astronaut with a skin tone
        "\U0001f3f3\ufe0f\u200d\U0001f308",  # a flag, in emoji's form, and a rainbow
        "\u2764\ufe0f\u200d\U0001f525 tea",
        "1\ufe0f\u20e3",  # a keycap
        "\u845b\U000e0100\u98fe",  # an ideograph in the form that a family uses
        "\u1820\u180b",  # a Mongolian letter in its second form
        "\U0001f1ee\U0001f1f7",  # a country's flag
    ],
)
def test_what_shapes_its_neighbours_is_taken(name: str) -> None:
    assert name_complaint(name, length_max=64) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        (" ", "begins or ends with a space"),
        ("   ", "begins or ends with a space"),
        ("tea ", "begins or ends with a space"),
        (" tea", "begins or ends with a space"),
        ("x" * 65, "is longer than 64 characters"),
        ("\u0958" * 33, "composed (NFC), is longer than 64 characters"),
        ("te\na", "holds control"),
        ("\u00a0", "holds control"),  # spaces that are not U+0020
        ("\u2003tea", "holds control"),
        ("\u3000", "holds control"),
        ("te\u200ba", "holds control"),  # zero width space
        ("te\u2060a", "holds control"),  # word joiner
        ("te\ufeffa", "holds control"),
        ("te\u00ada", "holds control"),  # soft hyphen
        ("te\u202ea", "holds control"),  # right-to-left override
        ("te\u2066a", "holds control"),
        ("te\u200fa", "holds control"),
        ("te\u061ca", "holds control"),
        ("\ud800", "holds control"),  # half of a character
        ("te\ue000a", "holds control"),  # private use
        ("te\U000e0041a", "holds control"),  # a tag
        ("te\u200ca", "U+200C"),
        ("te\u200da", "U+200D"),
        ("\u200ctea", "U+200C"),
        ("tea\u200d", "U+200D"),
        ("\u200d", "U+200D"),
        ("\u0645\u06cc\u200c", "U+200C"),  # Persian, but nothing follows
        ("\U0001f468\u200d", "U+200D"),
        ("\U0001f468\u200dx", "U+200D"),
        ("x\u200d\U0001f468", "U+200D"),
        ("\U0001f468\u200d\u200d\U0001f469", "U+200D"),
        ("\U00017000\u200ctea", "U+200C"),  # a neighbour without a name in the tables
        ("te\ufe0fa", "U+FE0F"),
        ("\ufe0ftea", "U+FE0F"),
        ("te\U000e0100a", "U+E0100"),
        ("te\u180ba", "U+180B"),
        ("te\u034fa", "U+034F"),
        ("\u3164", "U+3164"),
        ("tea\uffa0", "U+FFA0"),
        ("te\u115fa", "U+115F"),
        ("te\u17b4a", "U+17B4"),
        ("\u2800", "U+2800"),
    ],
)
def test_invisible_character_is_refused_by_its_number(name: str, said: str) -> None:
    assert said in name_complaint(name, length_max=64)


def test_every_character_alone_is_visible_or_refused() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if not name_complaint(character, length_max=3):
            assert unicodedata.category(character)[0] not in "CZ", hex(code)


@given(st.text(max_size=70))
def test_a_name_that_is_taken_is_taken_again_as_it_is_kept_and_by_every_reader(name: str) -> None:
    """What readers refuse goes to a dead letter: they must take all that the edge takes."""
    if not name_complaint(name, length_max=64):
        kept = composed(name)
        assert name_complaint(kept, length_max=64) == text_complaint(kept, length_max=64) == ""
        assert composed(kept) == kept


def test_readers_take_joiners_wherever_they_stand() -> None:
    """Their tables may be of another edition than those of the process that accepted the name."""
    assert text_complaint("te\u200c\u200da", length_max=64) == ""
    assert text_complaint("te\u200b", length_max=64) != ""
