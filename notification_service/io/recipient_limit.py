"""How many mails one mailbox gets in an hour: any client may place orders for any user, so orders could flood it.

The ledger counts, so a restart forgets nothing. A mailbox may be named in several ways; all of them count together.
"""

from collections import Counter
from collections.abc import Iterable

import sqlalchemy as sa

from notification_service.core.recipients import mailbox
from notification_service.io import ledger_store


class RecipientLimit:
    """The mails of the last hour by mailbox: read once for a batch, counted on as letters leave."""

    def __init__(self, *, mails_max: int, customer_domain: str) -> None:
        self.mails_max = mails_max
        self._customer_domain = customer_domain
        self._sent = Counter[str]()

    def read(self, connection: sa.Connection, user_ids: Iterable[str]) -> None:
        """Read what the mailboxes of these users were sent. Raises Busy where PostgreSQL does not answer."""
        mailboxes = {self._mailbox(user_id) for user_id in user_ids}
        spellings = [*mailboxes, *(f"{each}@{self._customer_domain.lower()}" for each in mailboxes)]
        self._sent.clear()
        for spelling, mails in ledger_store.mails_of_the_last_hour(connection, spellings):
            self._sent[self._mailbox(spelling)] += mails

    def reached(self, user_id: str) -> bool:
        """Return True if this user's mailbox gets no more for now."""
        return self._sent[self._mailbox(user_id)] >= self.mails_max

    def count(self, user_id: str) -> None:
        """Count a mail that has left."""
        self._sent[self._mailbox(user_id)] += 1

    def _mailbox(self, user_id: str) -> str:
        return mailbox(user_id, customer_domain=self._customer_domain)
