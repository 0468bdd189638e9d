"""The exporter beside a real pipeline: what it reports of groups that are dead, behind and done, and of the books."""

import http.client
from collections import defaultdict
from contextlib import closing
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from common.topics import INVENTORY, NOTIFICATION, ORDER_STATUS
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import wait_for, write_orders

ORDERS = 500
SOON_SECONDS = 60.0
GROUPS = (INVENTORY.name, NOTIFICATION.name, ORDER_STATUS.name)


def page(process: Process) -> str:
    with closing(http.client.HTTPConnection(urlsplit(process.health_url).netloc, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def totals(process: Process, name: str, label: str = "") -> dict[str, float]:
    """Return the sums of a metric by the value of one label; what the page does not show is absent."""
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(page(process)):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels.get(label, "")] += sample.value
    return dict(found)


def test_lag_is_reported_while_no_worker_runs__and_none_once_all_is_done__inside_too(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10_000})
    exporter = pipeline.start(
        "deploy.exporter",
        role="reader",
        env={"PIPELINE_EXPORTER_SECONDS": "1", "PIPELINE_EXPORTER_TABLES_SECONDS": "1"},
    ).wait_ready()
    write_orders(pipeline, [make_order(lines=[("tea", 2)]) for _ in range(ORDERS)])

    def outside() -> dict[str, float]:
        lag = totals(exporter, "kafka_group_lag_records", "group")
        return {group: lag[group] for group in GROUPS if group in lag}

    behind = {INVENTORY.name: ORDERS, NOTIFICATION.name: 0, ORDER_STATUS.name: ORDERS}
    wait_for(lambda: outside() == behind, seconds=SOON_SECONDS, what="a lag of 500, with no process at all")
    assert totals(exporter, "kafka_group_members", "group")[INVENTORY.name] == 0
    assert totals(exporter, "kafka_cluster_up") == {"": 1}

    workers = {
        INVENTORY.name: pipeline.start("inventory_service", role="inventory_rw"),
        NOTIFICATION.name: pipeline.start("notification_service", role="notification_rw"),
        ORDER_STATUS.name: pipeline.start("order_service", "projection", role="order_rw"),
    }
    wait_for(
        lambda: totals(exporter, "notification_ledger_entries", "state") == {"claimed": 0, "sent": ORDERS},
        seconds=SOON_SECONDS,
        what="all notified",
    )
    wait_for(lambda: outside() == dict.fromkeys(GROUPS, 0), seconds=SOON_SECONDS, what="no lag outside")

    def inside() -> dict[str, float]:
        pages = [totals(worker, "kafka_consumer_lag_records", "group") for worker in workers.values()]
        return {group: lag for each in pages for group, lag in each.items()}

    wait_for(lambda: inside() == dict.fromkeys(GROUPS, 0), seconds=SOON_SECONDS, what="no lag inside")
    assert totals(exporter, "kafka_group_members", "group")[INVENTORY.name] == 1
    assert totals(exporter, "inventory_stock_units", "state") == {
        "on_hand": 10_000,
        "available": 10_000 - 2 * ORDERS,
        "reserved": 2 * ORDERS,
    }
    assert totals(exporter, "inventory_stock_imbalance_units") == {"": 0}

    workers[INVENTORY.name].kill()
    write_orders(pipeline, [make_order() for _ in range(3)])
    wait_for(lambda: outside()[INVENTORY.name] == 3, seconds=SOON_SECONDS, what="the lag of a group that is dead")
    with pipeline.administer() as connection:
        connection.exec_driver_sql("UPDATE inventory.stock SET on_hand = on_hand + 5")  # as no delivery is booked
    wait_for(
        lambda: totals(exporter, "inventory_stock_imbalance_units") == {"": 5}, seconds=SOON_SECONDS, what="imbalance"
    )
    assert exporter.stop() == 0
