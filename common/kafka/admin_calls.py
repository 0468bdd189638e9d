"""One request to a cluster from outside, bounded: sent again while the cluster settles, and errors put into words."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from onceloop.errors import FatalError, ReportedError
from onceloop.kafka.answers import results
from onceloop.kafka.group_requests import GroupRequests

CONNECT_SECONDS = 10.0
"""After so long without any answer a broker counts as absent."""

SETTLE_SECONDS = 20.0
"""How long a cluster may take that answers "not yet", or slowly."""

ATTEMPT_SECONDS = 1.0
"""The first attempt; each further one takes twice as long. The client looks a leader or a coordinator up once and then
only waits, which on a new cluster it does in vain: better ask again."""

_SLACK_SECONDS = 1.0  # a request keeps its own time-out, more or less
SETTLING_WAIT_SECONDS = 0.05
SETTLING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._NOENT,  # noqa: SLF001 - a public name of librdkafka: no leader is known yet
        KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
    }
)
"""What a cluster answers for a moment while a topic, a leader or a coordinator is new."""
_FORMER_LEADERS = frozenset({KafkaError.FENCED_LEADER_EPOCH, KafkaError._NOENT})  # noqa: SLF001 - as above
_AWAY = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT})  # noqa: SLF001 - as above

T = TypeVar("T")


class AdminCalls:
    """Sends requests by an admin client. Methods raise FatalError if the broker does not answer."""

    def __init__(self, client: AdminClient, *, options: Mapping[str, Any], bootstrap: str) -> None:
        self._client = client
        self._groups = GroupRequests(options)
        self._bootstrap = bootstrap

    def metadata(self) -> Mapping[str, Any]:
        """Return what the broker says now of every topic, by name."""
        try:
            return self._client.list_topics(timeout=CONNECT_SECONDS).topics
        except KafkaException as error:
            raise self.unreachable(error) from error

    def call(self, request: Callable[[float], Mapping[Any, Future[T]]], *, passing: int | None = None) -> dict[Any, T]:
        """Send one request and return its results; an item that ends with the error `passing` is left out.

        `request` takes the seconds that an attempt may last. What a cluster answers while a topic or a coordinator is
        new is asked again within the deadline.
        """
        return self._settled(lambda limit: results(request(limit), seconds=limit + _SLACK_SECONDS, passing=passing))

    def call_coordinator(
        self, request: Callable[[AdminClient, float], Mapping[Any, Future[T]]], *, passing: int | None = None
    ) -> dict[Any, T]:
        """Do the same with a request that a group's coordinator answers; `request` is as GroupRequests takes it."""
        return self._settled(lambda limit: self._groups.ask(request, seconds=limit, passing=passing))

    def unreachable(self, error: KafkaException) -> ReportedError:
        """Return what to raise for an error that no further attempt mends."""
        cause: KafkaError = error.args[0]
        if cause.code() in _AWAY:
            return FatalError(
                f"no broker answers at {self._bootstrap}: {cause.str()}",
                cure="start it, or correct PIPELINE_KAFKA_BOOTSTRAP",
            )
        if cause.code() in SETTLING:
            return FatalError(
                f"the cluster at {self._bootstrap} is not ready after {SETTLE_SECONDS} s: {cause.str()}",
                cure="run `pipeline provision`, or look at the broker's log",
            )
        return ReportedError(f"the broker refuses: {cause.str()}")

    def _settled(self, attempt: Callable[[float], dict[Any, T]]) -> dict[Any, T]:
        deadline = time.monotonic() + SETTLE_SECONDS
        limit = ATTEMPT_SECONDS
        while True:
            try:
                return attempt(limit)
            except KafkaException as error:
                if error.args[0].code() not in SETTLING or time.monotonic() + limit > deadline:
                    raise self.unreachable(error) from error
                forget_former_leaders(self._client, error)
                if error.args[0].code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - a public name of librdkafka
                    limit *= 2
            time.sleep(SETTLING_WAIT_SECONDS)


def forget_former_leaders(client: AdminClient, error: KafkaException) -> None:
    """Have the client look all leaders up again if it failed for knowing them as they were, before it is asked again.

    librdkafka does so itself after other errors of that kind, but not after these two: where a partition lost its
    leader and got it back, it sends the former leader epoch for minutes; for just as long it says of a partition
    that was added since that it has no leader.
    """
    if error.args[0].code() in _FORMER_LEADERS:
        with suppress(KafkaException):  # if no broker answers, the next request says so
            client.list_topics(timeout=CONNECT_SECONDS)
