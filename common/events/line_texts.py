"""The lines of a whole batch as two texts to bind: by the extension where it is built, else in Python. Pure.

A list of lists would be encoded value by value; joined, the server splits it.
"""

from collections.abc import Callable, Iterable, Sequence

from common.events.extension import EXTENSION
from common.events.orders import OrderLine

Texts = Callable[[Iterable[Sequence[OrderLine]], str, str], tuple[str, str]]
"""Lines of each order, what divides orders, what divides the SKUs of one -> all SKUs, all quantities.

The quantities of one order are divided by commas. No SKU may hold what divides.
"""


def in_python(batch: Iterable[Sequence[OrderLine]], between: str, within: str) -> tuple[str, str]:
    """Return the texts."""
    skus, quantities = [], []
    for lines in batch:
        skus.append(within.join([sku for sku, _ in lines]))
        quantities.append(",".join([str(quantity) for _, quantity in lines]))
    return between.join(skus), between.join(quantities)


BEST: Texts = EXTENSION.texts if EXTENSION else in_python
