import pytest

from benchmarks.worker import between, parse

PAGE = """
# HELP inventory_decisions_total Orders decided for the first time, committed in Kafka too.
# TYPE inventory_decisions_total counter
inventory_decisions_total{verdict="reserved"} 900.0
inventory_decisions_total{verdict="failed"} 100.0
# HELP inventory_decisions_created Orders decided for the first time, committed in Kafka too.
# TYPE inventory_decisions_created gauge
inventory_decisions_created{verdict="reserved"} 1.7e+09
# HELP kafka_batch_records Records in one batch.
# TYPE kafka_batch_records histogram
kafka_batch_records_bucket{le="500.0"} 2.0
kafka_batch_records_bucket{le="+Inf"} 4.0
kafka_batch_records_count 4.0
kafka_batch_records_sum 1000.0
# HELP kafka_recoveries_total Rewinds to the committed offsets.
# TYPE kafka_recoveries_total counter
kafka_recoveries_total{cause="start"} 1.0
kafka_recoveries_total{cause="assignment"} 2.0
# HELP kafka_consumer_lag_records Records between a worker's offsets and the end of its partitions.
# TYPE kafka_consumer_lag_records gauge
kafka_consumer_lag_records{group="inventory"} 77.0
"""


def test_a_page_is_read_without_what_only_looks_alike() -> None:
    reading = parse(PAGE, at_seconds=5.0, cpu_seconds=2.0)
    assert (reading.orders, reading.batches, reading.records) == (1000, 4, 1000)
    assert (reading.recoveries, reading.lag_records) == (3, 77)


def test_what_was_never_counted_is_zero() -> None:
    reading = parse("", at_seconds=5.0, cpu_seconds=2.0)
    assert (reading.orders, reading.batches, reading.lag_records) == (0, 0, 0)


def test_a_window_is_what_happened_between_two_looks() -> None:
    first = parse("", at_seconds=10.0, cpu_seconds=1.0)
    window = between(first, parse(PAGE, at_seconds=14.0, cpu_seconds=1.05))
    assert window.orders_per_second == pytest.approx(250)
    assert window.cpu_us_per_order == pytest.approx(50)
    assert window.records_per_batch == pytest.approx(250)
    assert window.lag_records == 77


def test_a_window_without_orders_has_no_cost_of_an_order() -> None:
    reading = parse(PAGE, at_seconds=10.0, cpu_seconds=1.0)
    assert between(reading, parse(PAGE, at_seconds=11.0, cpu_seconds=1.5)).cpu_us_per_order == 0
