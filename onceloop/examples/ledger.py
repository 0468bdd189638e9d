"""A payments ledger, exactly once: each payment moves money between two accounts, or is refused.

python -m onceloop.examples.ledger init --topics 2    # its table: CREATE below; topics, first offsets
python -m onceloop.examples.ledger                    # then write to the topic `payments`:
# key p1, value {"from": "ann", "to": "bob", "cents": 500}
"""

import json

import psycopg

from onceloop import InputRecord, Once, OutputRecord, Refused

CREATE = "CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, cents bigint NOT NULL CHECK (cents >= 0))"
MOVE = "INSERT INTO account AS a VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET cents = a.cents + excluded.cents"

app = Once(
    kafka="127.0.0.1:9092",
    postgres="postgresql://127.0.0.1/ledger",
    group="ledger",
    inputs=["payments"],
    outputs=["payments.booked"],
)


@app.each(key=lambda record: record.key)
def book(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
    """Book one payment."""
    payment = json.loads(record.value or b"")
    if payment["cents"] <= 0:
        raise Refused("a payment moves at least one cent")
    db.execute(MOVE, [payment["to"], payment["cents"]])
    return [OutputRecord("payments.booked", key=record.key, value=record.value)]


if __name__ == "__main__":
    app.main()
