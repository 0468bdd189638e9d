"""The words of the code are those of its field, so that no reader has to translate them.

One word per thing stands in docs/glossary.md; these are the ones that said several things at once.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    r"told|tell|tells|telling|teller|untold": "reported, published, notified, answered, shown; distinguish",
    r"nobody|nobodys": "no process, no client, no member; or the passive",
    r"somebody": "another process, an operator",
    r"whoever": "the process that, a client that",
    r"anew": "again, from scratch; rebuilt",
    r"whence": "where it comes from",
    r"in[ _]earnest": "for real use",
    r"held[ _]for[ _]dead": "declared dead",
    r"thereby|therein|wherein": "so, in it",
}
DATA = re.compile(
    r"\.tell\(\)"  # the position of a file
    r"|\"postgres\", \"nobody\""  # an account of the operating system
    r"|event-built-anew"  # a planted bug: the kept runs of chaos/history go by its name
)
LOOKED_AT = ("*.py", "*.md", "*.toml", "deploy/*.yml", "deploy/*.json")
LEFT_OUT = re.compile(
    r"docs/adr/|CHANGELOG\.md"  # history
    r"|chaos/REPORT\.md"  # made from the kept runs
    r"|tests/unit/test_words\.py"
)


def complaints(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and complaint of each such word, in names too: `told_once`, `FieldTold`, `TOLD`."""
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", DATA.sub("", line))
        for pattern, instead in INSTEAD.items():
            for found in re.finditer(rf"(?<![a-z])({pattern})(?![a-z])", words, re.IGNORECASE):
                yield number, f'{found[0]} -> use "{instead}"'


def test_words_are_those_of_the_field() -> None:
    listed = subprocess.run(["git", "ls-files", *LOOKED_AT], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    names = [name for name in listed.stdout.splitlines() if not LEFT_OUT.match(name) and (ROOT / name).exists()]
    assert len(names) > 500
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    found = [f"{name}:{line}: {what}" for name, text in texts.items() for line, what in complaints(text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("line", ["# Told once", "def _told_once():", "class FieldTold:", "TOLD = 1", "held for dead"])
def test_word_is_found_in_prose_and_in_names(line: str) -> None:
    assert [number for number, _ in complaints(line)] == [1]
