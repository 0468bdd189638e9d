"""Named places at which a chaos launcher may act; in the product each is a no-op.

`point` is a module attribute on purpose: the launcher rebinds it, nothing else in the product knows, and there is no
flag, file or variable that could switch a fault on. Call it as `failpoints.point("name")`.
"""

from collections.abc import Callable


def _nothing(name: str) -> None:
    """Do nothing."""


point: Callable[[str], None] = _nothing
