"""What a rule of the books is, and what breaking one means."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from audit.books import Books


class Harm(Enum):
    """What a violation means to the shop."""

    LOST = "lost"
    DOUBLED = "doubled"
    OVERSOLD = "oversold"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule. `order_id` is empty where no order is to blame."""

    what: str
    order_id: str = ""
    harm: Harm = Harm.WRONG


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule: `judged` counts what it looked at, `violations` yields what breaks it."""

    id: str
    rule: str
    judged: Callable[[Books], int]
    violations: Callable[[Books], Iterator[Violation]]
