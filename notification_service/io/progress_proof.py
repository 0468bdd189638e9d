"""Prove offsets that this product did not commit itself: does the ledger know what lies right below them?

A partition's records are worked on in their order, so where the customer of the newest outcome below an offset was
notified, all were. One that is unknown says that the group was set ahead by hand: the customers in between would
silently be left out.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from common.events.codec import Codec
from common.topics import NOTIFICATION, Topic, dead_letter_topic
from notification_service.core.entries import Key
from notification_service.core.outcomes import Outcome, read
from notification_service.io import ledger_store
from onceloop.errors import Busy, FatalError, Undecodable
from onceloop.kafka.follower import following
from onceloop.kafka.looking_back import Looker, looking
from onceloop.records import InputRecord, Partition

LETTERS_BACK = 20_000
"""How far from its end a dead letter topic is read."""


class ProgressProof:
    """Compares offsets with the ledger. `options`: those of an admin client; `sources`: topic -> what it holds."""

    def __init__(
        self,
        *,
        engine: sa.Engine,
        codec: Codec,
        namespace: str,
        sources: Mapping[Topic, type[Outcome]],
        options: Mapping[str, Any],
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._options = options
        self._sources = {topic.within(namespace): kind for topic, kind in sources.items()}
        self._letters = {
            topic.within(namespace): dead_letter_topic(topic, NOTIFICATION).within(namespace) for topic in sources
        }

    def __call__(self, offsets: Mapping[Partition, int]) -> None:
        """Return if no customer was passed over. Raises FatalError if one was, Busy while that cannot be found out."""
        with looking(self._options) as looker:
            ahead = {at: found for at, offset in offsets.items() if (found := self._passed_over(looker, at, offset))}
        if ahead:
            named = ", ".join(
                f"{at.topic}[{at.number}] at {offsets[at]}, but no customer was notified of {ahead[at].offset}"
                for at in sorted(ahead)
            )
            raise FatalError(
                f"the group's offsets were set ahead of its work: {named}",
                cure="stop the workers, then: pipeline offsets repair notification (docs/runbook.md);"
                " no customer is notified twice by it",
            )

    def _passed_over(self, looker: Looker, partition: Partition, offset: int) -> InputRecord | None:
        """Return the newest outcome below the offset if it was passed over; what cannot be read is no outcome."""
        for record in looker.newest_below(partition, offset):
            try:
                outcome = read(self._codec, self._sources[partition.topic], record.value)
            except Undecodable:
                continue
            return None if self._was_notified(record, outcome) else record
        return None

    def _was_notified(self, record: InputRecord, outcome: Outcome) -> bool:
        with ledger_store.connected(self._engine) as connection:
            states = ledger_store.states(connection, Key.of(outcome))
        if "sent" in states:
            return True
        topic = self._letters[record.partition.topic]
        try:
            with following(self._options, topic) as letters:
                letters.begin(back=LETTERS_BACK)
                return record.value in letters.standing()  # refused by the mail server, or by the database
        except FatalError as error:
            raise Busy(f"dead letters of {topic}: {error.message}") from error
