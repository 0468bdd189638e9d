"""Look for bytes that the extension reads otherwise than the codec does.

    python -m tools.fuzz_decoder --seconds 600

Takes sound orders, breaks them in a few places, and compares what is found at once with what fastavro and our rules
make of the same bytes. By hand, and whenever native/ changes; a short run is among the unit tests. The exit code is 1
if a difference is found; its bytes are printed.
"""

import argparse
import random
import sys
import time
import uuid
from collections.abc import Sequence

from common.events import scanning
from common.events.codec import EVENT_TYPES, Codec
from common.events.orders import LINES_MAX, PLACED_BEFORE_MS, QUANTITY_MAX, OrderCreated, OrderLine
from onceloop.errors import Undecodable

BATCH = 50
SOUND = 0.8
BORDERS = (0x00, 0x01, 0x02, 0x1F, 0x20, 0x48, 0x7E, 0x7F, 0x80, 0x81, 0xC2, 0xFE, 0xFF)
"""Bytes at borders: of numbers, of names, of UTF-8."""
_USUAL_NAMES = ("tea", "mug", "sku-0001", "s" * 61, " ", "~", "x" * 60)
_NAMES = (*_USUAL_NAMES, "", "s" * 64, "ä", "a\u200db", "\U0001f469", "\x7f", "x" * 129)


class Difference(Exception):  # noqa: N818 - a finding
    """The two do not agree about these bytes."""


def fuzz(codec: Codec, *, seed: int, rounds: int) -> int:
    """Compare so many batches; return how many records were found at once. Raises Difference."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    return sum(compare(codec, [_broken(codec, chance) for _ in range(BATCH)]) for _ in range(rounds))


def compare(codec: Codec, values: Sequence[bytes]) -> int:
    """Return how many of the values are found at once. Raises Difference if the codec reads one otherwise."""
    found = codec.scan_orders(list(values))
    if len(found) != len(values):
        raise Difference(f"{len(found)} answers for {len(values)} values")
    for value, order in zip(values, found, strict=True):
        if order is None:
            continue
        try:
            read = codec.decode(OrderCreated, value)
        except Undecodable as cause:
            raise Difference(f"{value.hex()} is {order}, but for the codec: {cause.reason}") from cause
        if read != order:
            raise Difference(f"{value.hex()} is {order}, but for the codec {read}")
    return sum(order is not None for order in found)


def main(arguments: Sequence[str]) -> int:
    """Fuzz for some time; return the exit code."""
    parser = argparse.ArgumentParser(description="Compare the extension with the codec on broken orders.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    asked = parser.parse_args(arguments)
    if not scanning.is_built():
        print("the extension is not built: make native")
        return 1
    codec = Codec({kind.__name__: number for number, kind in enumerate(EVENT_TYPES, 1)}, _no_schema)
    ends_at, batches, found = time.monotonic() + asked.seconds, 0, 0
    print(f"seed {asked.seed}")
    while time.monotonic() < ends_at:
        try:
            found += fuzz(codec, seed=asked.seed + batches, rounds=1)
        except Difference as difference:
            print(difference)
            return 1
        batches += 1
    print(f"{batches * BATCH} records, {found} of them found at once: no difference")
    return 0


def _no_schema(number: int) -> str:
    raise Undecodable("schema", f"schema id {number} is not registered")


def _broken(codec: Codec, chance: random.Random) -> bytes:
    value = bytearray(codec.encode(_order(chance)))
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        _break(value, chance)
    return bytes(value)


def _order(chance: random.Random) -> OrderCreated:
    """Return an order that is mostly sound: what is found at once is what this is about."""
    known = _USUAL_NAMES if chance.random() < SOUND else _NAMES
    names = chance.choices(known, k=chance.choice((1, 2, 3, 5, 5, LINES_MAX)))
    return OrderCreated(
        str(uuid.UUID(int=chance.getrandbits(128))),
        chance.choice(known),
        tuple([OrderLine(f"{name}{at}", chance.choice((1, 2, QUANTITY_MAX))) for at, name in enumerate(names)]),
        chance.choice((1, 1_800_000_000_000, PLACED_BEFORE_MS - 1)),
    )


def _break(value: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(value) + 1)
    match chance.randrange(5):
        case 0:
            del value[at:]
        case 1:
            value[at : at + 1] = bytes([chance.choice(BORDERS)])
        case 2:
            value[at:at] = bytes([chance.choice(BORDERS)])
        case 3:
            del value[at : at + chance.randrange(1, 4)]
        case _:
            value[at:at] = value[at : at + chance.randrange(1, 20)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
