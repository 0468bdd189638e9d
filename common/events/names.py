"""Names as people send them: user ids and SKUs, in one spelling, with nothing invisible in them. Pure.

Asked where names come in, by the API and by `pipeline stock`. Readers of the topics ask less (`orders.text_complaint`):
what counts as visible follows from tables that change with every edition of Unicode, and a worker with another edition
than the API must not turn an accepted order down (docs/adr/0044-names-in-one-spelling.md).
"""

import unicodedata

import idna
from pydantic_core import SchemaValidator, core_schema

from common.events.orders import ZWJ, ZWNJ, text_complaint

_EMOJI_STYLE, _SKIN_TONES = "\ufe0e\ufe0f", "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_KEYCAPS = "0123456789#*"
_BRAILLE_BLANK = "\u2800"  # a letter of its own to Unicode, and empty paper to the eye


def _property(name: str) -> SchemaValidator:
    """Return what looks up a character's Unicode property; the standard library knows neither of ours."""
    return SchemaValidator(core_schema.str_schema(pattern=rf"^\p{{{name}}}$"))


_INVISIBLE = _property("Default_Ignorable_Code_Point")
_EMOJI = _property("Extended_Pictographic")


def composed(name: str) -> str:
    """Return the spelling that is kept: Unicode's form NFC, in which é is one character however it was typed."""
    return unicodedata.normalize("NFC", name)


def name_complaint(name: str, *, length_max: int) -> str:
    """Return what is wrong with a name as it was sent, or an empty text."""
    if found := text_complaint(name, length_max=length_max):
        return found
    if name.startswith(" ") or name.endswith(" "):
        return "begins or ends with a space"
    if name.isascii():
        return ""
    kept = composed(name)
    if len(kept) > length_max:  # a few characters have no composed form and grow
        return f"composed (NFC), is longer than {length_max} characters"
    for at, character in enumerate(kept):
        if _hides(kept, at):
            return f"holds an invisible character, U+{ord(character):04X}, where it has no effect"
    return ""


def _hides(name: str, at: int) -> bool:
    """Return whether a name with this character looks like the one without it."""
    character, before = name[at], name[at - 1 : at] if at else ""
    if character in {ZWNJ, ZWJ}:
        return not (_joins(name, at) or (character == ZWJ and _joins_emoji(name, at)))
    if character == _BRAILLE_BLANK:
        return True
    if not _INVISIBLE.isinstance_python(character):
        return False
    return not _chooses_a_form(character, before)


def _joins(name: str, at: int) -> bool:
    """Return whether a joiner shapes letters there: CONTEXTJ, RFC 5892 appendix A."""
    try:
        return idna.valid_contextj(name, at)
    except ValueError:  # it knows nothing of a neighbour, such as a Tangut ideograph: no script that joins
        return False


def _joins_emoji(name: str, at: int) -> bool:
    """Return whether a ZWJ makes one emoji out of two: UTS 51, as rule GB11 of UAX 29 has it."""
    before = name[:at].rstrip(_EMOJI_STYLE + _SKIN_TONES)
    return all(_EMOJI.isinstance_python(beside) for beside in (before[-1:], name[at + 1 : at + 2]))


def _chooses_a_form(selector: str, before: str) -> bool:
    """Return whether this character chooses the form of the one before it.

    Emoji and keycaps (UTS 51), ideographs as they are written in names (UTS 37), Mongolian letters.
    """
    kind, base = unicodedata.name(selector, ""), unicodedata.name(before, "") if before else ""
    if kind.startswith("VARIATION SELECTOR"):
        emoji = selector in _EMOJI_STYLE and (before in _KEYCAPS or _EMOJI.isinstance_python(before))
        return bool(before) and (emoji or base.startswith("CJK "))
    return kind.startswith("MONGOLIAN FREE VARIATION SELECTOR") and base.startswith("MONGOLIAN LETTER")
