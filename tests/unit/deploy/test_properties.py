"""What Java makes of a value that we wrote into a `.properties` file."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.servers.properties import escaped


def as_java_reads(line: str) -> str:
    """Return the value of `key=...` as java.util.Properties loads it: Latin-1, escapes, leading blanks dropped."""
    text = line.encode("latin-1").decode("latin-1").partition("=")[2].lstrip(" \t\f")
    units = re.sub(
        r"\\(u[0-9a-fA-F]{4}|.)",
        lambda escape: (
            chr(int(escape[1][1:], 16))
            if len(escape[1]) > 1
            else {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(escape[1], escape[1])
        ),
        text,
    )
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/srv/ada/.pipeline/kafka", "/srv/ada/.pipeline/kafka"),
        ("/srv/jürgen/stack", "/srv/j\\u00fcrgen/stack"),
        ("/srv/u\u0308/kafka", "/srv/u\\u0308/kafka"),
        ("/проект/🍵", "/\\u043f\\u0440\\u043e\\u0435\\u043a\\u0442/\\ud83c\\udf75"),
        ("/my stack/a=b:c", "/my stack/a\\=b\\:c"),
        ("/back\\slash", "/back\\\\slash"),
        ("  led", "\\ \\ led"),
    ],
)
def test_value_is_written_as_java_writes_it(value: str, written: str) -> None:
    assert escaped(value) == written


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_java_reads_what_was_meant(value: str) -> None:
    line = f"log.dirs={escaped(value)}"
    assert line.isascii()
    assert "\n" not in line
    assert as_java_reads(line) == value
