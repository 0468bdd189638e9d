"""An observer that keeps the metrics for Prometheus; needs the extra `prometheus`."""

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from onceloop import metrics
from onceloop.probe_server import Page
from onceloop.telemetry import Metric, Silent


class PrometheusObserver(Silent):
    """Defines the metrics in a registry when it is built, so one per registry. Says nothing to a log."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, defined: Iterable[Metric] = metrics.ALL) -> None:
        self._registry = registry
        self._counters: dict[Metric, Counter] = {}
        self._gauges: dict[Metric, Gauge] = {}
        self._histograms: dict[Metric, Histogram] = {}
        for each in defined:
            self._define(each)

    def count(self, counter: Metric, /, *labels: str, by: float = 1) -> None:
        """Add to the counter."""
        of = self._counters[counter]
        (of.labels(*labels) if labels else of).inc(by)

    def set(self, gauge: Metric, value: float, /, *labels: str) -> None:
        """Set the gauge."""
        of = self._gauges[gauge]
        (of.labels(*labels) if labels else of).set(value)

    def forget(self, gauge: Metric, /, *labels: str) -> None:
        """Remove the gauge's value for these labels."""
        self._gauges[gauge].remove(*labels)

    def measure(self, histogram: Metric, value: float, /, *labels: str) -> None:
        """Add the value to the histogram."""
        of = self._histograms[histogram]
        (of.labels(*labels) if labels else of).observe(value)

    def page(self) -> Page:
        """Return all metrics of the registry, as Prometheus reads them."""
        return Page(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)

    def _define(self, metric: Metric) -> None:
        name, documentation, labels = metric.name, metric.documentation, metric.labels
        if metric.kind == "counter":
            self._counters[metric] = Counter(name, documentation, labels, registry=self._registry)
        elif metric.kind == "gauge":
            self._gauges[metric] = Gauge(
                name, documentation, labels, registry=self._registry, multiprocess_mode=metric.across_processes
            )
        else:
            self._histograms[metric] = Histogram(
                name, documentation, labels, registry=self._registry, buckets=metric.buckets
            )
