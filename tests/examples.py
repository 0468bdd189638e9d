"""The modules under examples/, loaded from their files: a rule that stands for the one in force."""

import importlib.util
from pathlib import Path
from typing import cast

from inventory_service.core.rule import Rule

FOLDER = Path(__file__).parents[1] / "examples"


def limit_per_customer() -> Rule:
    """Return the rule of five units of a SKU per customer, with orders served in part."""
    path = FOLDER / "limit_per_customer" / "allocation.py"
    spec = importlib.util.spec_from_file_location("limit_per_customer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Rule, module)
