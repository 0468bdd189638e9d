"""The metrics that the loops report to an observer: name, meaning, labels, buckets. Nothing is registered here.

A label has few values, all known beforehand: no key of a record is ever one.
"""

from onceloop.telemetry import Metric

READY = Metric("gauge", "worker_ready", "1 while the worker takes records, as /readyz says.")
IDLE_SECONDS = Metric(
    "gauge", "worker_loop_idle_seconds", "Time since the worker's loop last moved.", across_processes="livemax"
)
CONSUMER_LAG = Metric(
    "gauge",
    "kafka_consumer_lag_records",
    "Records between a worker's offset and the stable offset, of the partitions it owns.",
    ("group", "topic", "partition"),
)
TRANSACTIONS = Metric("counter", "kafka_transactions_total", "Kafka transactions by how they ended.", ("end",))
TRANSACTION_ERRORS = Metric(
    "counter", "kafka_transaction_errors_total", "Errors that ended one, by class and name.", ("kind", "name")
)
TAINTS = Metric("counter", "kafka_taints_total", "Producers found in doubt, by the first sign.", ("cause",))
FENCES = Metric(
    "counter", "kafka_fences_total", "Refusals because a newer process, or the broker's time-out, took the slot."
)
PRODUCER_REBUILDS = Metric(
    "counter", "kafka_producer_rebuilds_total", "Producers thrown away and built again.", ("cause",)
)
RECOVERIES = Metric("counter", "kafka_recoveries_total", "Rewinds to the committed offsets.", ("cause",))
PAUSES = Metric("counter", "kafka_pauses_total", "Pauses because something that the work needs did not answer.")
UNREAD = Metric(
    "gauge",
    "kafka_unread_partitions",
    "Partitions that no member of the worker's group reads, as the worker last saw it.",
    across_processes="livemax",
)
QUARANTINED = Metric("gauge", "kafka_quarantined_partitions", "Partitions left alone until a person comes.")
DEAD_LETTERS = Metric(
    "counter", "kafka_dead_letters_total", "Records copied to a dead letter topic, by their own.", ("topic",)
)
BATCH_RECORDS = Metric(
    "histogram",
    "kafka_batch_records",
    "Records in one batch.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
BATCH_SECONDS = Metric(
    "histogram",
    "kafka_batch_seconds",
    "Time of one batch by stage.",
    ("stage",),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)

ALL = (
    READY,
    IDLE_SECONDS,
    CONSUMER_LAG,
    TRANSACTIONS,
    TRANSACTION_ERRORS,
    TAINTS,
    FENCES,
    PRODUCER_REBUILDS,
    RECOVERIES,
    PAUSES,
    UNREAD,
    QUARANTINED,
    DEAD_LETTERS,
    BATCH_RECORDS,
    BATCH_SECONDS,
)
