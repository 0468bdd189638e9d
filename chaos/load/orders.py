"""What customers want, drawn from a seed: who, which SKUs, how many, and by which way. Pure."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from chaos.load.mix import Mix

Lines = tuple[tuple[str, int], ...]
"""SKU and quantity in units."""

ADDRESSED_EVERY = 10
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One order that may be served."""

    user: str
    lines: Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request over HTTP. `lines` is empty where the body holds no order; requests with one `meeting` go at once."""

    user: str
    lines: Lines
    body: bytes
    key: str | None = None
    meeting: int | None = None
    content_type: str = JSON


class Customers:
    """An endless stream of wishes. `way` distinguishes users of one way in from those of the other."""

    def __init__(self, mix: Mix, *, way: str) -> None:
        self.mix = mix
        self._way = way
        self._skus = list(mix.shelves())
        self._weights = list(accumulate(1 / (rank + 1) ** mix.zipf_exponent for rank in range(mix.skus)))
        self.chance = random.Random(f"{mix.seed} {way}")  # noqa: S311 - repeatable on purpose

    def want(self) -> Wanted:
        """Return the next wish."""
        mix, chance = self.mix, self.chance
        if len(self._skus) > 1 and chance.random() < mix.crossed:
            picked = chance.sample(self._skus[:2], 2)
        else:
            count = chance.randint(1, mix.lines_max)
            picked = list(dict.fromkeys(chance.choices(self._skus, cum_weights=self._weights, k=count)))
        if chance.random() < mix.unknown:
            picked.append(f"{mix.sku_prefix}-discontinued")
        return Wanted(self.user(), tuple((sku, chance.randint(1, mix.quantity_max)) for sku in picked))

    def user(self) -> str:
        """Return who comes next."""
        number = self.chance.randrange(self.mix.users)
        name = f"{self._way}-{number}"
        return name if number % ADDRESSED_EVERY else f"{name}@customers.example"


def requests(mix: Mix, *, run: str) -> Iterator[Request]:
    """Yield what is asked for over HTTP, in order. `run` goes in front of every key: keys are used once."""
    customers = Customers(mix, way="web")
    chance = customers.chance
    for number in range(mix.http_orders):
        wanted = customers.want()
        key = f"{run}-{number}" if chance.random() < mix.keyed else None
        dice = chance.random()
        if key is None or dice >= mix.paired + mix.conflicting:
            yield request(wanted, key=key)
        elif dice < mix.paired:
            yield request(wanted, key=key, meeting=number)
            yield request(wanted, key=key, meeting=number)
        else:
            meeting = number if chance.random() < 0.5 else None  # noqa: PLR2004 - one half
            other = Wanted(wanted.user, tuple((sku, quantity + 1) for sku, quantity in wanted.lines))
            yield request(wanted, key=key, meeting=meeting)
            yield request(other, key=key, meeting=meeting)
        if chance.random() < mix.invalid:
            yield _invalid(customers.want(), chance, key=f"{run}-{number}-refused")


def request(wanted: Wanted, *, key: str | None = None, meeting: int | None = None) -> Request:
    """Return the request of an order."""
    return Request(user=wanted.user, lines=wanted.lines, body=_body(wanted), key=key, meeting=meeting)


def _body(wanted: Wanted, **more: object) -> bytes:
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.lines]
    return json.dumps({"user_id": wanted.user, "lines": lines, **more}).encode()


def _invalid(wanted: Wanted, chance: random.Random, *, key: str) -> Request:
    """Return a request that an honest service refuses, whatever its state."""
    ((sku, _), *_) = wanted.lines
    body, content_type = chance.choice(
        (
            (_body(Wanted(wanted.user, ())), JSON),
            (_body(Wanted(wanted.user, ((sku, 0),))), JSON),
            (_body(Wanted(wanted.user, ((sku, 1), (sku, 1)))), JSON),
            (_body(Wanted("", wanted.lines)), JSON),
            (_body(Wanted(wanted.user, ((f"{sku}\x00", 1),))), JSON),
            (_body(wanted, coupon="half"), JSON),
            (_body(wanted)[:-1], JSON),
            (_body(wanted), "text/plain"),
        )
    )
    return Request(user=wanted.user, lines=(), body=body, content_type=content_type, key=key)
