"""The library knows no tenant, and what the services share knows none of their tables.

Looked at are names and texts in the code, docstrings included; words of plain English are let through where they are
meant so.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TENANTS = re.compile(
    r"PIPELINE_|order_service|inventory|notification|metrics_service|reserv(?:e|ed|ation)s?\b|\bskus?\b|\bstock\b"
    r"|\borders?\b|\bcustomers?\b|\bshop\b",
    re.IGNORECASE,
)
PLAIN_ENGLISH = re.compile(
    r"\b(?:(?:in|of|the|their|that|this|same|natural|ascending|lock|any|first) orders?\b|order (?:of|in|by|between)\b)"
    r"|ORDER BY|records and order|\border\b(?=\s*=)",
    re.IGNORECASE,
)
MADE = re.compile(r"CREATE (?:TABLE|VIEW) (?P<table>\w+\.\w+)|CONSTRAINT (?P<constraint>\w+)")


def tables_and_constraints() -> re.Pattern[str]:
    """Return what finds tables and views, with their schema, and constraints of the migrations."""
    migrations = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations" / "versions").glob("*.py"))
    names = {found["table"] or found["constraint"] for found in MADE.finditer(migrations)}
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))}|\w+_pkey)\b")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield names and strings with the lines they stand on; a name in words, `order_id` as `order id`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name.replace("_", " ")
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")


def hits(folder: str, banned: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {found[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in texts(path)
        if (found := banned.search(PLAIN_ENGLISH.sub("", text)))
    ]


def test_library_knows_no_tenant() -> None:
    assert hits("onceloop", TENANTS) == []


def test_what_the_services_share_knows_no_table_of_theirs() -> None:
    assert hits("common", tables_and_constraints()) == []


@pytest.mark.parametrize(
    "code", ["order_id = 1", "x.available_stock = 1", 'text = "PIPELINE_SLOT"', 'sql = "FROM inventory.stock"']
)
def test_name_of_a_tenant_is_found(code: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(code, encoding="utf-8")
    assert any(TENANTS.search(PLAIN_ENGLISH.sub("", text)) for _, text in texts(file))
