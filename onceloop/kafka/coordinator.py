"""See a client that looks for its group's coordinator where it was, not where it is. Pure, but for what is remembered.

librdkafka 2.16.0 takes the address of the coordinator when it learns of another broker id, and not when the same broker
has another address: it then asks every second, gets the right one, and connects to the old one, for ever. So after
one wrong answer, or when a broker comes back elsewhere under its id, the member stays outside of its group.
"""

import json
from collections.abc import Mapping
from typing import Any

SIGNS_MAX = 5
"""So many statistics in a row, one a second; an address that has just changed shows in one or two."""


def looks_elsewhere(statistics: Mapping[str, Any]) -> str:
    """Return the address at which the coordinator is sought in vain, while no broker is known to be there.

    An empty text if there is none, or if no broker answers at all: then nothing is known of their addresses. Source:
    STATISTICS.md: `brokers`, the coordinator among them as a logical one.
    """
    brokers = statistics.get("brokers", {}).values()
    known = [broker for broker in brokers if broker["source"] != "logical"]
    if not any(broker["state"] == "UP" for broker in known):
        return ""
    addresses = {broker["nodename"] for broker in known}
    for sought in brokers:
        if sought["name"] == "GroupCoordinator" and sought["state"] != "UP" and sought["nodename"]:
            return "" if sought["nodename"] in addresses else str(sought["nodename"])
    return ""


class CoordinatorWatch:
    """Reads the client's statistics. `lost`: the address where the coordinator is sought for good, or an empty text."""

    def __init__(self) -> None:
        self.lost = ""
        self._signs = 0

    def learn(self, statistics: str) -> None:
        """Take the client's statistics. Called inside its poll, where nothing may raise."""
        try:
            found = looks_elsewhere(json.loads(statistics))
        except (AttributeError, KeyError, TypeError, ValueError):
            found = ""
        self._signs = self._signs + 1 if found else 0
        self.lost = found if self._signs >= SIGNS_MAX else ""
