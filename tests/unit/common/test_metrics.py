"""Metrics keep Prometheus' conventions, and docs/metrics.md says of each what the code says."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from common import metrics
from deploy.exporter import measures
from deploy.exporter.measures import Measure
from onceloop import metrics as of_loops
from onceloop import prometheus

ROOT = Path(__file__).parents[3]
MODULES = {Path(metrics.__file__), Path(measures.__file__), Path(prometheus.__file__)}
OWNERS = ("order", "inventory", "notification", "metrics", "worker", "kafka", "exporter")
NAME = re.compile(rf"({'|'.join(OWNERS)})(_[a-z0-9]+)+")
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \|(?P<labels>[^|]*)\|(?P<means>[^|]*)\|", re.MULTILINE)
RESERVED_ENDS = ("_count", "_sum", "_bucket", "_created", "_info", "_total")
NO_BASE_UNITS = {"ms", "millis", "milliseconds", "us", "microseconds", "minutes", "hours", "kb", "mb", "percent"}
LABELS = {
    "method", "route", "status", "idempotency_key", "error_class", "verdict", "reason", "channel", "end", "kind",
    "group", "topic", "partition", "stage", "name", "cause", "state", "part",
}  # fmt: skip
"""Each has few values, known beforehand; the author of a new one answers for that."""
TYPES = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


@dataclass(frozen=True, slots=True)
class Defined:
    """One metric as the code has it; the name as Prometheus sees it."""

    name: str
    type: str
    labels: tuple[str, ...]
    documentation: str


def defined() -> list[Defined]:
    found = []
    for each in (*vars(metrics).values(), *vars(measures).values()):
        if isinstance(each, Measure):
            found.append(Defined(each.name, "gauge", each.labels, each.documentation))
        elif isinstance(each, MetricWrapperBase):
            name = f"{each._name}_total" if isinstance(each, Counter) else each._name
            found.append(Defined(name, TYPES[type(each)], tuple(each._labelnames), each._documentation))
    reported = (*of_loops.ALL, metrics.INVENTORY_DECISIONS, metrics.INVENTORY_REPLAYS)
    found += [Defined(each.name, each.kind, each.labels, each.documentation) for each in reported]
    return found


ALL = defined()
DOCUMENTED = {row["name"]: row for row in ROW.finditer((ROOT / "docs/metrics.md").read_text(encoding="utf-8"))}


def test_there_is_something_to_look_at() -> None:
    assert len(ALL) > 40
    assert len({each.name for each in ALL}) == len(ALL)


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_name_has_owner_thing_base_unit_and_the_end_of_its_type(each: Defined) -> None:
    assert NAME.fullmatch(each.name)
    assert each.name.endswith("_total") == (each.type == "counter")
    bare = each.name.removesuffix("_total")
    assert not bare.endswith(RESERVED_ENDS)
    assert bare.rpartition("_")[2] not in NO_BASE_UNITS
    assert each.documentation.endswith((".", "0", "503"))


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_labels_have_few_values(each: Defined) -> None:
    assert set(each.labels) <= LABELS


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_page_of_metrics_states_type_labels_and_meaning(each: Defined) -> None:
    row = DOCUMENTED[each.name]
    assert row["type"] == each.type
    assert tuple(re.findall(r"`(\w+)`", row["labels"])) == each.labels
    assert row["means"].strip()


def test_page_of_metrics_names_no_others() -> None:
    assert DOCUMENTED.keys() == {each.name for each in ALL}


@pytest.mark.parametrize(
    "gauge",
    [
        *(each for each in (*vars(metrics).values(), *vars(measures).values()) if isinstance(each, Gauge)),
        *metrics.METERS._gauges.values(),
    ],
)
def test_gauge_says_what_several_processes_make_of_it(gauge: Gauge) -> None:
    """The default gives each process a line of its own, labelled by its pid, for ever."""
    assert gauge._multiprocess_mode in {"livesum", "livemax", "mostrecent"}


@pytest.mark.parametrize(
    "histogram",
    [*(each for each in vars(metrics).values() if isinstance(each, Histogram)), *metrics.METERS._histograms.values()],
)
def test_buckets_are_stated_and_ascend(histogram: Histogram) -> None:
    bounds = histogram._upper_bounds
    assert bounds == sorted(set(bounds))
    assert tuple(bounds[:-1]) != Histogram.DEFAULT_BUCKETS


def test_metrics_are_made_where_they_are_listed() -> None:
    made = []
    for path in ROOT.glob("*/**/*.py"):
        if path.relative_to(ROOT).parts[0] not in {"tests", ".venv"} and path not in MODULES:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = {
                name.asname or name.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "prometheus_client"
                for name in node.names
            } & {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
            made += [
                f"{path.relative_to(ROOT)}:{node.lineno}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported
            ]
    assert made == []


def test_page_shows_what_a_process_owns_and_no_moments_of_creation() -> None:
    metrics.METERS.count(metrics.INVENTORY_DECISIONS, "reserved", metrics.NO_REASON)
    text = metrics.page(*metrics.of_worker("inventory_")).decode()
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"inventory_decisions", "kafka_fences", "worker_ready", "process_start_time_seconds"} <= families
    assert not [name for name in families if name.startswith(("order_", "metrics_", "exporter_")) or "created" in name]
