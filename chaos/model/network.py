"""The wire between a client and the broker: requests get lost, answers get lost, copies come late.

librdkafka sends a request again by itself when its connection breaks or no answer comes; only its log shows it (`FAIL`,
`REQTMOUT`). The first copy may still be on its way and arrive after the second, after the transaction, or after its
sender's death. Measured on Kafka 4.3.1 behind a proxy: EndTxn, Produce and TxnOffsetCommit all do so.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

from confluent_kafka import KafkaError

from chaos.model.broker import Refused
from chaos.model.scheduler import Killed, Scheduler

SOCKET_TIMEOUT_SECONDS = 3.0
RECONNECT_SECONDS = 0.1
CONCURRENT_MAX = 40
CROSSING = 0.3
"""How likely a late copy arrives between the requests of another transaction, where it does most harm."""

T = TypeVar("T")


class TimedOut(Exception):  # noqa: N818 - the client's state, which it turns into an error
    """The call's time was over before an answer came."""


class Weather(Enum):
    """What happens to one request."""

    CUT = auto()
    """Lost on the way, the connection reset; sent again."""
    ANSWER_LOST = auto()
    """Done, but the answer is lost; sent again."""
    OVERTAKEN = auto()
    """Held up; sent again, and the first copy arrives some other time."""
    UNANSWERED = auto()
    """Done; the call's time is over before anything comes back."""
    HELD = auto()
    """Held up; the call's time is over, and the request arrives some other time."""


class Network:
    """One wire for all. `rough` is the share of requests that meet bad weather, of these `kinds`; 0 is calm."""

    def __init__(self, scheduler: Scheduler, settle: Callable[[], object]) -> None:
        self.rough = 0.0
        self.kinds = tuple(Weather)
        self.promptness = 1.0
        """How likely a late copy arrives when it might."""
        self.late: list[tuple[str, Callable[[], object]]] = []
        self.late_arrivals = 0
        self.storms = 0
        self._scheduler = scheduler
        self._settle = settle

    def call(self, api: str, request: Callable[[], T], taint: Callable[[str], None]) -> T:
        """Send a request and return the answer. `taint` takes the client's log line, if one is due.

        Raises Refused and TimedOut.
        """
        self._scheduler.alive()
        random = self._scheduler.random
        try:
            self._scheduler.step(f"{api} sent")
        except Killed:
            if random.random() < self.rough:  # the kernel may have sent what its process did not live to see answered
                self.late.append((api, request))
            raise
        if self.late and random.random() < CROSSING:
            self._deliver()
        if random.random() >= self.rough:
            return self._answer(api, request)
        weather = random.choice(self.kinds)
        self.storms += 1
        self._scheduler.note("network", f"{api} {weather.name.lower()}")
        if weather in {Weather.OVERTAKEN, Weather.HELD}:
            self.late.append((api, request))
        elif weather is not Weather.CUT:
            self._arrive(api, request)
        taint("FAIL" if weather is Weather.CUT else "REQTMOUT")
        self._scheduler.now += RECONNECT_SECONDS if weather is Weather.CUT else SOCKET_TIMEOUT_SECONDS
        self._scheduler.step(f"{api} waited for")
        if weather in {Weather.UNANSWERED, Weather.HELD}:
            raise TimedOut
        return self._answer(api, request)

    def deliver_late(self) -> bool:
        """Let one late copy arrive; return False if there is none, or if it takes longer still."""
        if not self.late or self._scheduler.random.random() >= self.promptness:
            return False
        self._deliver()
        return True

    def _deliver(self) -> None:
        api, request = self.late.pop(self._scheduler.random.randrange(len(self.late)))
        self.late_arrivals += 1
        self._arrive(f"late {api}", request)

    def _answer(self, api: str, request: Callable[[], T]) -> T:
        """Return the answer; CONCURRENT_TRANSACTIONS is asked again inside the client."""
        for _ in range(CONCURRENT_MAX):
            try:
                answer = request()
            except Refused as refused:
                self._scheduler.step(f"{api} refused: {refused}")
                if refused.code != KafkaError.CONCURRENT_TRANSACTIONS:
                    raise
                self._settle()
            else:
                self._scheduler.step(f"{api} answered")
                return answer
        raise TimedOut

    def _arrive(self, api: str, request: Callable[[], object]) -> None:
        """Let a copy arrive whose answer no client hears."""
        try:
            request()
        except Refused as refused:
            self._scheduler.note("network", f"{api} arrived, refused: {refused}")
        else:
            self._scheduler.note("network", f"{api} arrived")
