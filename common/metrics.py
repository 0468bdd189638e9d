"""Prometheus metrics: the registry and every name, in one place.

Names follow `<service>_<thing>_<unit>_total`; no order or user id is ever a label.
"""

from prometheus_client import Counter, Gauge, Histogram

ORDERS_ACCEPTED = Counter("order_requests_accepted_total", "Orders accepted for the first time.", ["idempotency_key"])
ORDERS_REFUSED = Counter("order_requests_refused_total", "Requests answered with 4xx or 5xx.", ["status"])
PROJECTION_SKIPPED = Counter(
    "order_projection_skipped_total", "Records that the status projection could not read.", ["error_class"]
)

INVENTORY_DECISIONS = Counter(
    "inventory_decisions_total", "Orders decided for the first time, committed in Kafka too.", ["verdict"]
)
INVENTORY_REPLAYS = Counter("inventory_replays_total", "Records answered from a stored decision.")
LAG = Gauge("kafka_lag_records", "Records between a worker's offsets and the end of its partitions.", ["service"])

TRANSACTIONS = Counter("kafka_transactions_total", "Kafka transactions by how they ended.", ["end"])
TRANSACTION_ERRORS = Counter(
    "kafka_transaction_errors_total", "Errors that ended one, by class and name.", ["kind", "name"]
)
PRODUCER_REBUILDS = Counter("kafka_producer_rebuilds_total", "Producers thrown away and built anew.", ["cause"])
RECOVERIES = Counter("kafka_recoveries_total", "Rewinds to the committed offsets.", ["cause"])
PAUSES = Counter("kafka_pauses_total", "Pauses because the database did not answer.")
DEAD_LETTERS = Counter("kafka_dead_letters_total", "Records copied to a dead letter topic.", ["topic"])
BATCH_RECORDS = Histogram(
    "kafka_batch_records", "Records in one batch.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
BATCH_SECONDS = Histogram(
    "kafka_batch_seconds",
    "Time of one batch by stage.",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)

NOTIFICATIONS = Counter("notification_messages_total", "Messages by channel and end.", ["channel", "end"])
