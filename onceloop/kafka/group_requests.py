"""Requests that a group's coordinator answers: describe the group, set its offsets, delete it.

librdkafka 2.16.0 ends the process (`eonce->refcnt > 0`, its issue 5040) if such a request times out before the
coordinator is known: its search for the coordinator goes on, holds the request, and releases it twice once it has found
one. So no request times out here. A caller that stops waiting drops the client, and the search ends with it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from onceloop.kafka.answers import results

NO_LIMIT_SECONDS = 3600.0
"""The longest time-out of a request that librdkafka accepts."""

T = TypeVar("T")


class GroupRequests:
    """Sends requests about groups, by a client of its own."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._client: AdminClient | None = None

    def ask(
        self,
        request: Callable[[AdminClient, float], Mapping[Any, Future[T]]],
        *,
        seconds: float,
        passing: int | None = None,
    ) -> dict[Any, T]:
        """Send one request and return its results; an item that ends with the error `passing` is left out.

        `request` takes the client, and the time-out to ask it with. Raises KafkaException, `_TIMED_OUT` after these
        seconds without an answer: a request that was sent may be carried out all the same.
        """
        if self._client is None:
            self._client = AdminClient(self._options)
        try:
            return results(request(self._client, NO_LIMIT_SECONDS), seconds=seconds, passing=passing)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - a public name of librdkafka
                self._client = None
            raise
