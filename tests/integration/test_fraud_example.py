"""`examples/fraud`: a service that is no part of the pipeline reads its orders and answers each once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from onceloop.config import KafkaConfig
from onceloop.kafka.cluster import Cluster
from tests.factories import make_order
from tests.once import world_of
from tests.pipeline import Pipeline
from tests.records import wait_for, write_orders
from tests.stack import Stack

ROOT = Path(__file__).parents[2]


def test_customer_who_buys_too_much_is_suspected_from_then_on(
    servers: Stack, pipeline: Pipeline, tmp_path: Path
) -> None:
    namespace, bootstrap = pipeline.namespace, servers.settings.kafka_bootstrap
    cleared, suspected = f"{namespace}.fraud.cleared", f"{namespace}.fraud.suspected"
    topics = [cleared, suspected, f"{namespace}.orders.created.{namespace}.fraud.dlq"]
    Cluster(KafkaConfig(bootstrap)).create(topics, partitions=1)
    password = tmp_path / "password"
    password.write_text(servers.settings.postgres_admin_password.get_secret_value(), encoding="utf-8")
    with world_of(servers) as world:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples" / "fraud")]),
            "PIPELINE_NAMESPACE": namespace,
            "PIPELINE_KAFKA_BOOTSTRAP": bootstrap,
            "PIPELINE_REGISTRY_URL": servers.settings.registry_url,
            "PIPELINE_POSTGRES_URL": world.dsn,
            "PIPELINE_POSTGRES_PASSWORD_FILE": str(password),
            "PIPELINE_SLOT": "0",
            "PIPELINE_HEALTH_PORT": "0",
            "FRAUD_UNITS_MAX": "5",
        }
        log = tmp_path / "fraud.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "fraud"], env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            orders = [make_order(user_id=user, lines=[("tea", 3)]) for user in ("ann", "bob", "ann", "ann")]
            write_orders(pipeline, orders, partition=0)
            wait_for(lambda: len(world.read(cleared)) + len(world.read(suspected)) == 4, what="four verdicts")
            verdicts = [json.loads(message.value() or b"") for message in world.read(suspected)]
            assert [verdict["order_id"] for verdict in verdicts] == [orders[2].order_id, orders[3].order_id]
            assert [verdict["units_within_an_hour"] for verdict in verdicts] == [6, 9]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text(encoding="utf-8")
