"""Rules over what is on the shelves: S6, S14. Pure."""

from collections.abc import Iterator

from audit.books import Books
from audit.rules.rule import Harm, Violation
from audit.terms import Stock

ABOUT_STOCK = frozenset({"insufficient_stock", "unknown_sku"})


def stock_balance(books: Books) -> Iterator[Violation]:
    """S6: on hand = available + reserved, and nothing is negative; now, and in every snapshot that was taken.

    Decisions are counted as they are recorded, too.
    """
    for row in books.stock:
        yield from _balance_faults(row, "")
    for tally in books.tallies:
        if tally.counted != tally.recorded:
            verdict = "reserved" if tally.verdict else "failed"
            words = f"{verdict}, reason {tally.reason}: {tally.recorded} decisions, but the total says {tally.counted}"
            yield Violation(words)
    for snapshot in books.testimony.snapshots if books.testimony else ():
        for row in snapshot.stock:
            yield from _balance_faults(row, f" (snapshot at {snapshot.time:.1f} s)")


def no_false_refusal(books: Books) -> Iterator[Violation]:
    """S14: an order that failed for lack of stock wants more of some SKU than is left, where nothing was restocked.

    A failed order that wants a SKU which a run restocked says nothing: there may have been less of it before. So does
    one that failed for a reason of the rule's own, such as a limit per customer: it makes no claim about stock.
    """
    restocked = books.testimony.restocked if books.testimony else frozenset()
    available = {row.sku: row.available or 0 for row in books.stock if row.sku not in restocked}
    for order_id, decision in books.decisions.items():
        if decision.reason in ABOUT_STOCK and all(
            available.get(sku, 0) >= wanted for sku, wanted in decision.row_lines
        ):
            yield Violation("failed although every line is in stock", order_id)


def _balance_faults(row: Stock, when: str) -> Iterator[Violation]:
    if row.on_hand is None or row.available is None:
        yield Violation(f"{row.sku}: {row.reserved} reserved of a SKU that has no stock row{when}", harm=Harm.OVERSOLD)
        return
    balance = f"{row.sku}: {row.on_hand} on hand, but {row.available} available and {row.reserved} reserved{when}"
    if row.available < 0 or row.reserved > row.on_hand:
        yield Violation(balance, harm=Harm.OVERSOLD)
    elif row.on_hand != row.available + row.reserved:
        yield Violation(balance)
