"""Is this customer buying too much at once? Each order is cleared or suspected, exactly once: `python -m fraud`.

A service that the pipeline knows by its row alone, `service.toml`: it reads `orders.created`, and the schemas that its
records name, as any program could. A customer whose units within an hour exceed `FRAUD_UNITS_MAX` is suspected. The
answer depends on the clock, so the same order might be answered otherwise a second time: it never is.
"""

import json
import os
import urllib.request
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import psycopg

from onceloop import InputRecord, KafkaConfig, LinesObserver, Observers, Once, OutputRecord, Refused
from onceloop.prometheus import PrometheusObserver

CREATE = """
CREATE TABLE IF NOT EXISTS customer (user_id text PRIMARY KEY, units bigint NOT NULL, since timestamptz NOT NULL)
"""
BUY = """
INSERT INTO customer AS c VALUES (%(user)s, %(units)s, now()) ON CONFLICT (user_id) DO UPDATE SET
    units = excluded.units + CASE WHEN c.since > now() - interval '1 hour' THEN c.units ELSE 0 END,
    since = CASE WHEN c.since > now() - interval '1 hour' THEN c.since ELSE now() END
RETURNING units
"""
PREFIX_BYTES = 5
"""Before the Avro of a value: a zero byte, and the number of its schema."""
REGISTRY_SECONDS = 5

namespace = os.environ.get("PIPELINE_NAMESPACE", "")
password_file = Path(os.environ["PIPELINE_POSTGRES_PASSWORD_FILE"])
metrics = PrometheusObserver()
app = Once(
    kafka=KafkaConfig(os.environ["PIPELINE_KAFKA_BOOTSTRAP"]),
    postgres=os.environ["PIPELINE_POSTGRES_URL"],
    password=lambda: password_file.read_text(encoding="utf-8").strip(),
    group=f"{namespace}.fraud".removeprefix("."),
    topic_prefix=f"{namespace}." if namespace else "",
    schema="fraud",
    slot=int(os.environ["PIPELINE_SLOT"]),
    inputs=["orders.created"],
    outputs=["fraud.cleared", "fraud.suspected"],
    health_port=int(os.environ["PIPELINE_HEALTH_PORT"]),
    metrics_page=metrics.page,
    observer=Observers(LinesObserver(), metrics),
)


@lru_cache(maxsize=64)
def schema(number: int) -> Any:
    """Return a schema of the registry. Raises OSError while the registry does not answer: then `Once` tries again."""
    url = f"{os.environ['PIPELINE_REGISTRY_URL'].rstrip('/')}/schemas/ids/{number}"
    with urllib.request.urlopen(url, timeout=REGISTRY_SECONDS) as answer:  # noqa: S310 - the registry of the stack
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


@lru_cache(maxsize=1000)  # the key function and the handler ask for the same order
def order(value: bytes | None) -> Any:
    """Return the order that a record holds. Raises Refused if it holds none."""
    if not value or value[0] != 0 or len(value) <= PREFIX_BYTES:
        raise Refused("no Avro with the number of its schema before it")
    writer = schema(int.from_bytes(value[1:PREFIX_BYTES], "big"))
    return fastavro.schemaless_reader(BytesIO(value[PREFIX_BYTES:]), writer, None)


@app.each(key=lambda record: str(order(record.value)["order_id"]))
def check(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
    """Clear or suspect one order."""
    asked = order(record.value)
    units = sum(line["quantity"] for line in asked["lines"])
    row = db.execute(BUY, {"user": asked["user_id"], "units": units}).fetchone()
    within_an_hour = row[0] if row else units
    suspected = within_an_hour > int(os.environ["FRAUD_UNITS_MAX"])
    verdict = {"order_id": str(asked["order_id"]), "units_within_an_hour": within_an_hour}
    topic = "fraud.suspected" if suspected else "fraud.cleared"
    return [OutputRecord(topic, key=record.key, value=json.dumps(verdict).encode())]


if __name__ == "__main__":
    app.init()
    with psycopg.connect(app.postgres, password=app.password(), autocommit=True) as connection:
        connection.execute("SET search_path TO fraud")
        connection.execute(CREATE)
    app.main()
