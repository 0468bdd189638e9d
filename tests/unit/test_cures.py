"""No way out that the product names destroys what was accepted, counted or sent."""

import ast
import re

from tests.unit.test_tidy import COMMAND_LINE, SERVICES, modules, named, tree

DESTROYS = re.compile(
    r"--volumes|\bdelet(e|ing)\b|\btruncate\b|\bdrop(ping)?\b|\bwip(e|ing)\b|\bstarts? (over|afresh)\b"
    r"|\bempty (it|them|the|database)\b|\ban empty database\b|\brm -",
    re.IGNORECASE,
)
LAWFUL = ("a file of the cache is damaged",)
"""What can be downloaded again is no data of a user."""


def cures() -> list[tuple[str, str]]:
    """Return every text that is given as a cure, with where it stands."""
    found = []
    for path in modules(*SERVICES, "metrics_service", "common", "onceloop", *COMMAND_LINE):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                given = [each.value for each in node.keywords if each.arg == "cure"]
                given += node.args[1:2] if getattr(node.func, "id", "") == "_cause" else []
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                given = [node.value for each in targets if "CURE" in getattr(each, "id", "").upper()]
            else:
                continue
            texts = [
                each.value
                for value in given
                for each in ast.walk(value)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            found += [(f"{named(path)}:{node.lineno}", text) for text in texts]
    return found


def test_there_are_cures_to_look_at() -> None:
    assert len(cures()) > 100


def test_no_cure_destroys_data() -> None:
    found = [f"{where}: {text}" for where, text in cures() if DESTROYS.search(text) and not text.startswith(LAWFUL)]
    assert found == []
