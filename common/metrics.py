"""Prometheus metrics: every name, type, label and bucket, in one place; docs/metrics.md says when to worry.

Names follow `<service>_<thing>_<unit>_total` in base units. A label has few values that the code or the table of topics
knows beforehand: no order, user or SKU is ever one. Topics and groups go by their names in the table, without the
namespace, so that rules and boards hold for every pipeline.
"""

from collections.abc import Iterator

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

from onceloop import metrics as of_loops
from onceloop.prometheus import PrometheusObserver
from onceloop.telemetry import Metric as Reported

OF_LIBRARY = ("process_", "python_")
NO_REASON = "none"
"""The reason of an order that did not fail."""


def of_worker(own: str) -> tuple[str, ...]:
    """Return the prefixes of the metrics that a worker shows; `own`: the prefix of its service's."""
    return (own, "worker_", "kafka_", *OF_LIBRARY)


def page(*prefixes: str, source: Collector = REGISTRY) -> bytes:
    """Return the metrics whose names begin so, as Prometheus reads them.

    A process defines every metric of this module; one that it never counts would be shown as 0, and taken for a fact.
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
METERS = PrometheusObserver(
    defined=(*of_loops.ALL, INVENTORY_DECISIONS, INVENTORY_REPLAYS),
)
