"""The exporter's metrics: what broker and tables say, and how its own looks went. Rules as in `common.metrics`."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily


@dataclass(frozen=True, slots=True)
class Measure:
    """A gauge whose values are all set from scratch at each look, so that nothing is reported of what is gone."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()

    def family(self, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
        """Return the gauge with these values, by the values of its labels."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


# From the broker alone
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

# From the tables
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

# About the exporter itself
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
