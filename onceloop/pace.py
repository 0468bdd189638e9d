"""How many records a batch may hold, so that a slow handler stays within the time that a transaction has. Pure."""

FIRST_RECORDS = 16
"""The first batch, before anything is known of the handler's speed."""
TRANSACTION_SECONDS = 3.0
"""What a handler should take of one transaction; PostgreSQL ends it after 10 s."""
BATCH_SECONDS = 20.0
"""What a batch may take in all: the group takes a member for dead after 60 s without a poll, /livez after 30 s."""
NEWEST_WEIGHT = 0.3


class Pace:
    """Of one process. `limit`: records of the next batch; `largest`: never more than that."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._seconds_per_record = 0.0
        self.limit = min(FIRST_RECORDS, largest)

    def measured(self, records: int, seconds: float) -> None:
        """Take note of what a handler took for so many records, one at least. Slower counts at once, faster slowly."""
        newest = seconds / records
        known = self._seconds_per_record
        self._seconds_per_record = newest if newest > known else known + NEWEST_WEIGHT * (newest - known)
        self.limit = min(self.limit, self._affordable())

    def grow(self) -> None:
        """Take up to twice as many, as far as the handler's speed allows."""
        self.limit = max(1, min(2 * self.limit, self._largest, self._affordable()))

    def narrow(self) -> None:
        """Take half as many."""
        self.limit = max(1, self.limit // 2)

    def single(self) -> None:
        """Take one record at a time, until batches go through again."""
        self.limit = 1

    def _affordable(self) -> int:
        if self._seconds_per_record * self._largest <= TRANSACTION_SECONDS:
            return self._largest
        return max(1, int(TRANSACTION_SECONDS / self._seconds_per_record))
