"""What the exporter found last, as Prometheus reads it. What a look did not see is left out: no old value is shown."""

import time
from collections.abc import Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.registry import Collector

from deploy.exporter import measures
from deploy.exporter.observer import Cluster, Look
from deploy.exporter.stalls import Stall, stalls
from deploy.exporter.tables import Books
from onceloop.records import Partition


class Board(Collector):
    """The latest look at the broker, and at the tables. Each is replaced whole, so a page never mixes two looks."""

    def __init__(self) -> None:
        self._look: Look | None = None
        self._stalls: Mapping[Partition, Stall] = {}
        self._books: Books | None = None

    def show_look(self, look: Look | None) -> None:
        """Show what the broker answered, or that none did; a stall outlasts looks that fail."""
        if look is not None:
            self._stalls = stalls(self._stalls, look.ends, now_seconds=time.monotonic())
        self._look = look

    def show_books(self, books: Books | None) -> None:
        """Show what the tables held, or nothing."""
        self._books = books

    def collect(self) -> Iterator[Metric]:
        """Yield the page."""
        look, books = self._look, self._books
        yield measures.CLUSTER_UP.family({(): float(look is not None)})
        if look is not None:
            yield from _of_cluster(look.cluster)
            yield from _of_partitions(look, self._stalls)
            yield from _of_groups(look)
        if books is not None:
            yield from _of_books(books)


def _of_cluster(cluster: Cluster) -> Iterator[Metric]:
    yield measures.CLUSTER_BROKERS.family({(): cluster.brokers})
    yield measures.CLUSTER_ANSWER_SECONDS.family({(): cluster.answer_seconds})
    yield measures.CLUSTER_LEADERLESS.family({(): cluster.leaderless})
    yield measures.CLUSTER_UNDER_REPLICATED.family({(): cluster.under_replicated})


def _of_partitions(look: Look, standing: Mapping[Partition, Stall]) -> Iterator[Metric]:
    now = time.monotonic()
    seconds = {_labels(at): now - standing[at].since_seconds if at in standing else 0.0 for at in look.ends}
    yield measures.STABLE_OFFSET.family({_labels(at): ends.stable for at, ends in look.ends.items()})
    yield measures.UNSTABLE_OFFSETS.family({_labels(at): ends.high - ends.stable for at, ends in look.ends.items()})
    yield measures.UNSTABLE_SECONDS.family(seconds)


def _of_groups(look: Look) -> Iterator[Metric]:
    yield measures.GROUP_COMMITTED.family(_per_partition({name: each.committed for name, each in look.groups.items()}))
    yield measures.GROUP_LAG.family(_per_partition({name: each.lag for name, each in look.groups.items()}))
    yield measures.GROUP_MEMBERS.family({(name,): group.members for name, group in look.groups.items()})
    yield measures.GROUP_UNSET.family({(name,): group.unset for name, group in look.groups.items()})


def _of_books(books: Books) -> Iterator[Metric]:
    yield measures.DECIDED_ORDERS.family(books.decided)
    units = {"on_hand": books.on_hand, "available": books.available, "reserved": books.reserved}
    yield measures.STOCK_UNITS.family({(state,): count for state, count in units.items()})
    yield measures.STOCK_IMBALANCE.family({(): books.imbalance})
    yield measures.LEDGER_ENTRIES.family({("claimed",): books.claimed, ("sent",): books.sent})
    yield measures.LEDGER_OLDEST_SECONDS.family({(): books.oldest_claim_seconds})


def _per_partition(groups: Mapping[str, Mapping[Partition, int]]) -> dict[tuple[str, ...], float]:
    return {(name, *_labels(at)): value for name, found in groups.items() for at, value in found.items()}


def _labels(partition: Partition) -> tuple[str, ...]:
    return partition.topic, str(partition.number)
