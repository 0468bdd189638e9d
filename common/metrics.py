"""Prometheus metrics: every name, type, label and bucket, in one place; docs/metrics.md says when to worry.

Names follow `<service>_<thing>_<unit>_total` in base units. A label has few values that the code or the table of topics
knows beforehand: no order, user or SKU is ever one. Topics and groups go by their names in the table, without the
namespace, so that rules and boards hold for every pipeline.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from onceloop import metrics as of_loops
from onceloop.prometheus import PrometheusObserver
from onceloop.telemetry import Metric as Reported

OF_LIBRARY = ("process_", "python_")
NO_REASON = "none"
"""The reason of an order that did not fail."""


def of_worker(own: str) -> tuple[str, ...]:
    """Return how the names begin of what a worker tells; `own`: of its service's."""
    return (own, "worker_", "kafka_", *OF_LIBRARY)


def page(*prefixes: str, source: Collector = REGISTRY) -> bytes:
    """Return the metrics whose names begin so, as Prometheus reads them.

    A process defines every metric of this module; one that it never counts would be told as 0, and taken for a fact.
    """
    return generate_latest(_Shown(source, prefixes))


class _Shown(Collector):
    """Those metrics of a source whose names begin so, without the moments at which each was first counted."""

    def __init__(self, source: Collector, prefixes: tuple[str, ...]) -> None:
        self._source = source
        self._prefixes = prefixes

    def collect(self) -> Iterator[Metric]:
        for metric in self._source.collect():
            if metric.name.startswith(self._prefixes):
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric


@dataclass(frozen=True, slots=True)
class Measure:
    """A gauge whose values are all made anew at each look, so that nothing is told of what is gone."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()

    def family(self, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
        """Return the gauge with these values, by the values of its labels."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


# order_service: the API
HTTP_SECONDS = Histogram(
    "order_http_request_duration_seconds",
    "Time from a request's headers to its answer; probes are left out.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
HTTP_IN_PROGRESS = Gauge(
    "order_http_requests_in_progress", "Requests that are being answered now.", multiprocess_mode="livesum"
)
HTTP_WORKERS = Gauge("order_http_workers", "Processes that answer requests.", multiprocess_mode="livesum")
HTTP_UNREADABLE = Counter(
    "order_http_unreadable_requests_total",
    "Requests that no thread was given: no HTTP, too large, too slow, or too many at once.",
    ["status"],
)
ORDERS_ACCEPTED = Counter("order_requests_accepted_total", "Orders accepted for the first time.", ["idempotency_key"])
ORDERS_REPEATED = Counter("order_requests_repeated_total", "Requests answered from the row of their Idempotency-Key.")
ORDERS_REFUSED = Counter("order_requests_refused_total", "Orders that were not accepted: 503.")
ORDERS_UNSURE = Counter("order_requests_unsure_total", "Orders that the broker did not acknowledge in time: 503.")

# order_service: the projection
PROJECTION_SKIPPED = Counter(
    "order_projection_skipped_records_total", "Records that the status projection could not read.", ["error_class"]
)

# inventory_service
INVENTORY_DECISIONS = Reported(
    "counter",
    "inventory_decisions_total",
    "Orders whose outcome this process made visible, committed in PostgreSQL and in Kafka.",
    ("verdict", "reason"),
)
INVENTORY_REPLAYS = Reported("counter", "inventory_replays_total", "Records answered from a stored decision.")

# notification_service
NOTIFICATIONS = Counter("notification_messages_total", "Messages by channel and end.", ["channel", "end"])

# metrics_service
METRICS_PARTIALS = Counter("metrics_partials_published_total", "Partial counts of a minute, one per input partition.")
METRICS_MINUTES = Counter(
    "metrics_minutes_published_total", "Totals of a minute: counted from orders, or empty.", ["kind"]
)
METRICS_LATE = Counter("metrics_late_orders_total", "Orders counted after their minute was closed.")

# Every worker: what the loops report, and the step of the inventory within one
METERS = PrometheusObserver(defined=(*of_loops.ALL, INVENTORY_DECISIONS, INVENTORY_REPLAYS))

# The exporter: what the broker alone tells
CLUSTER_UP = Measure("kafka_cluster_up", "1 if a broker answered the exporter's last look.")
CLUSTER_BROKERS = Measure("kafka_cluster_brokers", "Brokers that are part of the cluster.")
CLUSTER_ANSWER_SECONDS = Measure("kafka_cluster_answer_seconds", "Time that the broker took to describe the cluster.")
CLUSTER_LEADERLESS = Measure("kafka_cluster_leaderless_partitions", "Partitions of the pipeline without a leader.")
CLUSTER_UNDER_REPLICATED = Measure(
    "kafka_cluster_under_replicated_partitions", "Partitions of the pipeline with a replica out of sync."
)
_PARTITION = ("topic", "partition")
STABLE_OFFSET = Measure("kafka_partition_stable_offset", "Up to here no transaction is open.", _PARTITION)
UNSTABLE_OFFSETS = Measure(
    "kafka_partition_unstable_offsets", "Offsets behind the stable offset: readers wait for them.", _PARTITION
)
UNSTABLE_SECONDS = Measure(
    "kafka_partition_unstable_seconds", "How long the stable offset has not moved with something behind it.", _PARTITION
)
GROUP_COMMITTED = Measure(
    "kafka_group_committed_offset", "The next offset that is new to the group.", ("group", *_PARTITION)
)
GROUP_LAG = Measure(
    "kafka_group_lag_records",
    "Records between a group's committed offset and the stable offset.",
    ("group", *_PARTITION),
)
GROUP_MEMBERS = Measure(
    "kafka_group_members", "Members of a consumer group; dead ones for a session time-out more.", ("group",)
)
GROUP_UNSET = Measure(
    "kafka_group_unset_partitions", "Partitions for which a group has no committed offset.", ("group",)
)

# The exporter: what the tables tell
DECIDED_ORDERS = Measure(
    "inventory_decided_orders", "Orders that have a decision, since the beginning.", ("verdict", "reason")
)
STOCK_UNITS = Measure("inventory_stock_units", "Units over all SKUs: on_hand, available, reserved.", ("state",))
STOCK_IMBALANCE = Measure(
    "inventory_stock_imbalance_units", "Sum over SKUs of |on hand - available - reserved by decisions|: 0."
)
LEDGER_ENTRIES = Measure("notification_ledger_entries", "Rows of the ledger by state.", ("state",))
LEDGER_OLDEST_SECONDS = Measure(
    "notification_ledger_oldest_claim_seconds", "Age of the oldest claim that is not marked as sent; 0: none."
)

# The exporter: about itself
EXPORTER_LOOKS = Counter("exporter_looks_total", "Looks at the broker and at the tables, by end.", ["part", "end"])
EXPORTER_LOOK_SECONDS = Gauge(
    "exporter_look_seconds", "How long the last look took.", ["part"], multiprocess_mode="mostrecent"
)
EXPORTER_DONE_SECONDS = Gauge(
    "exporter_last_look_timestamp_seconds",
    "When a look last succeeded, since the epoch.",
    ["part"],
    multiprocess_mode="mostrecent",
)
