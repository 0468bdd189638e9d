"""A payments ledger, exactly once: each payment is booked once, whatever is killed, or it is refused.

python -m onceloop.examples.ledger --help      # `init` and `run`; how to try it out: onceloop/README.md
"""  # fmt: skip

import json

import psycopg

from onceloop import InputRecord, Once, OutputRecord, Refused

CREATE = "CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, cents bigint NOT NULL)"
BOOK = "INSERT INTO account AS a VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET cents = a.cents + excluded.cents"

app = Once(
    kafka="127.0.0.1:9092",
    postgres="postgresql://127.0.0.1/postgres",
    group="ledger",
    inputs=["payments"],
    outputs=["payments.booked"],
)


@app.each(key=lambda record: record.key)
def book(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
    """Book one payment, such as {"to": "ann", "cents": 500}."""
    payment = json.loads(record.value or b"")
    if payment["cents"] <= 0:
        raise Refused("a payment moves one cent at least")
    db.execute(BOOK, [payment["to"], payment["cents"]])
    return [OutputRecord("payments.booked", key=record.key, value=record.value)]


if __name__ == "__main__":
    app.main()
