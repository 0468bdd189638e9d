"""What rules and boards are made of: their expressions, and the metrics that exist."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from common import metrics
from deploy.exporter import measures
from deploy.exporter.measures import Measure
from onceloop import metrics as of_loops

DEPLOY = Path(__file__).parents[1] / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"
ALERT_TESTS = DEPLOY / "prometheus/tests/alerts.yml"
JMX_RULES = sorted((DEPLOY / "prometheus").glob("jmx-*.yml"))
BOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "5m", "$__interval": "5s", "$__range": "5m"}
"""What Grafana would put in; the variables of a board itself may match anything."""
_PRODUCT = re.compile(r"\b(?:order|inventory|notification|metrics|worker|kafka|exporter|connect)_[a-z0-9_]+\b")


def needs(program: str, *, way: str = "see `pipeline doctor`") -> str:
    """Return the program's path. Without it the test is skipped; under `.ci/run` it fails: nothing may go unproved."""
    if (path := shutil.which(program)) is None:
        missing = f"{program} is not installed: {way}"
        if os.environ.get("NOTHING_MAY_BE_SKIPPED"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def alert_names() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text(encoding="utf-8"), flags=re.MULTILINE)


def panels(board: Path) -> list[dict[str, Any]]:
    return list(json.loads(board.read_text(encoding="utf-8"))["panels"])


def queries(board: Path) -> Iterator[tuple[str, str]]:
    """Yield the panel's title and the query as Grafana would send it, with all of each variable chosen."""
    for panel in panels(board):
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            yield panel["title"], re.sub(r"\$\{?\w+\}?", ".*", query)


def metrics_in(text: str) -> set[str]:
    """Return the names of our metrics in a query; what stands in quotes or is a label is none."""
    bare = re.sub(r'"[^"]*"', "", text)
    return set(_PRODUCT.findall(re.sub(r"\b(?:by|without|on|ignoring) ?\([^)]*\)", "", bare)))


def known_metrics() -> set[str]:
    """Return every name that our processes and the agent may show."""
    jmx = "".join(rules.read_text(encoding="utf-8") for rules in JMX_RULES)
    known = set(re.findall(r"^    name: (\w+)$", jmx, flags=re.MULTILINE))
    for each in (*vars(metrics).values(), *vars(measures).values()):
        if isinstance(each, Measure):
            known.add(each.name)
        elif isinstance(each, MetricWrapperBase):
            known |= {name for family in each.describe() for name in _samples(family.name, family.type)}
    for each in (*of_loops.ALL, metrics.INVENTORY_DECISIONS, metrics.INVENTORY_REPLAYS):
        known |= _samples(each.name.removesuffix("_total"), each.kind)
    return known


def _samples(name: str, kind: str) -> set[str]:
    match kind:
        case "counter":
            return {f"{name}_total"}
        case "histogram":
            return {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
        case _:
            return {name}
