"""The ledger under every disturbance: `pytest --onceloop examples/ledger`."""

import json
import random

from onceloop.examples.ledger import CREATE
from onceloop.testing import Case


def payment(chance: random.Random, number: int) -> tuple[str, str]:
    """Return one payment: its id as the key, who gets how much as the value."""
    return f"p{number}", json.dumps({"to": chance.choice(["ann", "bob", "eve"]), "cents": chance.randrange(1, 1000)})


LEDGER = Case(
    app="onceloop.examples.ledger:app",
    setup=CREATE,
    records=lambda chance: [payment(chance, number) for number in range(40)],
    effects="SELECT name, cents FROM account",
    poison=[("p-nothing", '{"to": "ann", "cents": 0}')],
)
