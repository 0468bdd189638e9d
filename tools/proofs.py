"""Write docs/proofs.md, the tests behind each rule of the guarantees, from docs/proofs.toml: `make proofs`."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
GUARANTEES, SOURCE, PAGE = DOCS / "guarantees.md", DOCS / "proofs.toml", DOCS / "proofs.md"
HAZARDS = "hazards"
_RULE = re.compile(r"^\| ([a-z][\w-]+) \| (?!mechanism)", flags=re.MULTILINE)
_HAZARD = re.compile(r"^\| (H\d+(?:, H\d+)*) \|", flags=re.MULTILINE)
_HEADER = """# Tests behind the guarantees

Which test fails if a rule of the [guarantees](guarantees.md) does not hold, or if nothing is done about a hazard.
Written by `make proofs` from `docs/proofs.toml`; do not edit.
"""

Proofs = Mapping[str, Mapping[str, list[str]]]


def proofs() -> Proofs:
    """Return section (G1 to G12, hazards) -> rule -> its tests, and commands where only a whole run can judge."""
    loaded: Proofs = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    return loaded


def rules() -> dict[str, list[str]]:
    """Return section -> the rules that the guarantees name, in their order."""
    text = GUARANTEES.read_text(encoding="utf-8")
    found = {name: _RULE.findall(body) for name, _, body in _sections(text)}
    return {**found, HAZARDS: _HAZARD.findall(text)}


def page() -> str:
    """Return the page as it ought to be."""
    titles = {name: title for name, title, _ in _sections(GUARANTEES.read_text(encoding="utf-8"))}
    return _HEADER + "".join(
        f"\n## {_heading(section)}\n\n{_link(section, titles)}\n{''.join(_entries(named))}"
        for section, named in proofs().items()
    )


def _sections(text: str) -> list[tuple[str, str, str]]:
    """Return (name, title, text) of each guarantee."""
    return re.findall(r"^## (G\d+) ([^\n]+)\n(.*?)(?=^## )", text, flags=re.MULTILINE | re.DOTALL)


def _heading(section: str) -> str:
    return section.capitalize() if section == HAZARDS else section


def _link(section: str, titles: Mapping[str, str]) -> str:
    if section == HAZARDS:
        return "[What can go wrong](guarantees.md#hazards), by number.\n"
    title = f"{section} {titles[section]}"
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{titles[section]}](guarantees.md#{anchor}).\n"


def _entries(named: Mapping[str, list[str]]) -> Iterator[str]:
    for rule, tests in named.items():
        yield f"- **{rule}**\n"
        yield from (f"    - `{test}`\n" for test in tests)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
