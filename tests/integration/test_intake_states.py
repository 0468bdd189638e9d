"""Idempotent intake against a model: whatever clients repeat, mix up, race or lose the answer of.

Hypothesis makes up histories of requests, on the real application, database and broker. The model is one line: the
first request that leaves a row under (user, key) says which order the key stands for, and that never changes.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from common.postgres.engine import create_engine
from common.topics import ORDERS_CREATED
from onceloop import failpoints
from order_service.io.app import create_app
from order_service.io.publisher import Publisher
from order_service.io.readiness import Readiness
from order_service.io.refusal_note import RefusalNote
from order_service.io.status_store import StatusStore
from tests.pipeline import Pipeline
from tests.records import read, wait_for

Lines = tuple[tuple[str, int], ...]

HISTORIES = 40
STEPS = 12
AT_ONCE_MAX = 4

USERS = st.sampled_from(["ada", "bob"])
KEYS = st.sampled_from(["k", '"k"', "l"])
"""Two keys, one of them spelled in two ways."""
ORDERS = st.sampled_from(
    [(("tea", 1),), (("tea", 2),), (("mug", 1),), (("tea", 1), ("mug", 1)), (("mug", 1), ("tea", 1))]
)
SPELLINGS = st.sampled_from([0, 1, 2])
LOST_AT = st.sampled_from(["order:key.stored", "order:produced", "order:acked", "order:key.marked", "order:responding"])

ALL_PASS = {"order:key.stored", "order:responding"}
"""Where refused requests come by too."""


class Lost(BaseException):
    """The request ends here; as with a kill, nothing in between takes notice."""


@dataclass(slots=True)
class Accident:
    """Stands in for `failpoints.point`; ends the request of a thread that it is set for."""

    at: threading.local = field(default_factory=threading.local)

    def __call__(self, name: str) -> None:
        if getattr(self.at, "point", None) == name:
            raise Lost(name)

    @contextmanager
    def happens(self, point: str) -> Iterator[None]:
        self.at.point = point
        try:
            yield
        finally:
            self.at.point = None


@dataclass(frozen=True, slots=True)
class Shop:
    """The application in this process, and what it said over all histories."""

    app: Flask
    accident: Accident
    pool: ThreadPoolExecutor
    answered: dict[str, str] = field(default_factory=dict)
    """The user of each order that a client was answered with."""
    begun: set[tuple[str, str]] = field(default_factory=set)
    """(user, key) of requests that were lost, and perhaps never repeated: their orders may be on the topic."""

    def place(self, user: str, key: str | None, lines: Lines, spelling: int = 0) -> tuple[int, str]:
        """Return the status, and the order id or the problem's type."""
        headers = {} if key is None else {"Idempotency-Key": key}
        body = spelled(user, lines, spelling)
        answer = self.app.test_client().post("/orders", data=body, content_type="application/json", headers=headers)
        document = json.loads(answer.data)
        if answer.status_code == 202:
            self.answered[document["order_id"]] = user
        return answer.status_code, str(document.get("order_id", document.get("type")))


def spelled(user: str, lines: Lines, spelling: int) -> str:
    """Write the same order in one of three ways."""
    quantity: Callable[[int], float] = float if spelling == 1 else int
    listed = [{"sku": sku, "quantity": quantity(units)} for sku, units in lines]
    if spelling == 2:
        return json.dumps({"lines": listed, "user_id": user}, indent=3)
    return json.dumps({"user_id": user, "lines": listed})


class Histories(RuleBasedStateMachine):
    """Requests, one after the other, lost or at once."""

    shop: Shop

    def __init__(self) -> None:
        super().__init__()
        self.token = uuid.uuid4().hex
        self.meaning: dict[tuple[str, str], Lines] = {}
        self.order_ids: dict[tuple[str, str], str] = {}

    @rule(user=USERS, key=KEYS, lines=ORDERS, spelling=SPELLINGS)
    def request(self, user: str, key: str, lines: Lines, spelling: int) -> None:
        """A key without an order gets this one; a repetition gets the first answer, another body none."""
        whose, name = self._name(user, key)
        self._judge(whose, name, lines, self.shop.place(whose, key, lines, spelling))

    @rule(user=USERS, lines=ORDERS)
    def request_without_key(self, user: str, lines: Lines) -> None:
        """Each is an order of its own."""
        known = set(self.shop.answered)
        status, order_id = self.shop.place(self._name(user, "")[0], None, lines)
        assert (status, order_id in known) == (202, False)

    @rule(user=USERS, key=KEYS, lines=ORDERS, point=LOST_AT)
    def lost_request(self, user: str, key: str, lines: Lines, point: str) -> None:
        """The first one says what its key means even if its answer never comes."""
        whose, name = self._name(user, key)
        try:
            with self.shop.accident.happens(point):
                answer = self.shop.place(whose, key, lines)
        except Lost:
            first = self.meaning.setdefault((whose, name), lines)
            assert first == lines or point in ALL_PASS
            self.shop.begun.add((whose, name))
        else:  # it did not come by there: answered from the row, or refused
            self._judge(whose, name, lines, answer)

    @rule(user=USERS, key=KEYS, orders=st.lists(ORDERS, min_size=2, max_size=AT_ONCE_MAX))
    def requests_at_once(self, user: str, key: str, orders: list[Lines]) -> None:
        """One of them wins, and all answers agree on which."""
        whose, name = self._name(user, key)
        gate = threading.Barrier(len(orders))

        def meet(lines: Lines) -> tuple[int, str]:
            gate.wait(10)
            return self.shop.place(whose, key, lines)

        answers = list(self.shop.pool.map(meet, orders))
        won = [lines for lines, (status, _) in zip(orders, answers, strict=True) if status == 202]
        if (whose, name) not in self.meaning:
            assert won, answers
            self.meaning[whose, name] = won[0]
        for lines, answer in zip(orders, answers, strict=True):
            self._judge(whose, name, lines, answer)

    def _name(self, user: str, key: str) -> tuple[str, str]:
        """Return the user, kept apart from those of other histories, and the key without quotes."""
        return f"{user}-{self.token}", key.strip('"')

    def _judge(self, user: str, key: str, lines: Lines, answer: tuple[int, str]) -> None:
        status, named = answer
        if self.meaning.setdefault((user, key), lines) != lines:
            assert (status, named) == (422, "urn:order-pipeline:problem:idempotency-key-conflict")
            return
        assert status == 202, answer
        assert self.order_ids.setdefault((user, key), named) == named, "one key, two orders"


@pytest.fixture
def shop(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Shop]:
    accident = Accident()
    monkeypatch.setattr(failpoints, "point", accident)
    engine = create_engine(
        pipeline.postgres("order_rw"), application="test", pool_size=AT_ONCE_MAX + 1, autocommit=True
    )
    publisher = Publisher(pipeline.kafka, RefusalNote(tmp_path))
    wait_for(lambda: not publisher.missing(), what="the publisher")
    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        readiness = Readiness(StatusStore(engine), publisher, stopping=lambda: False)
        app = create_app(engine, publisher, readiness, stopping=lambda: False, metrics_page=bytes, threads=AT_ONCE_MAX)
        yield Shop(app, accident, pool)
    publisher.close()
    engine.dispose()


def test_key_stands_for_its_first_order_whatever_the_history(shop: Shop, pipeline: Pipeline) -> None:
    """Aim: S1, S2, S4. Fault: answers lost at every point, other bodies, spellings and users, keys at once."""

    class Bound(Histories):
        pass

    Bound.shop = shop
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert_topic(shop, pipeline)


def assert_topic(shop: Shop, pipeline: Pipeline) -> None:
    """Assert that each answered order is on the topic, in one form, and no order that was not asked for."""
    forms: dict[str, set[tuple[bytes | None, bytes | None]]] = {}
    for seen in read(pipeline, ORDERS_CREATED):
        forms.setdefault(seen.headers["ce_id"].decode(), set()).add((seen.key, seen.value))
    assert shop.answered.items() <= {order_id: key_of(form) for order_id, form in forms.items()}.items()
    assert all(len(form) == 1 for form in forms.values())
    unanswered = [key_of(forms[order_id]) for order_id in forms.keys() - shop.answered.keys()]
    lost = [user for user, _ in shop.begun]
    assert all(unanswered.count(user) <= lost.count(user) for user in unanswered)
    assert len(shop.answered) > HISTORIES
    assert shop.begun


def key_of(form: set[tuple[bytes | None, bytes | None]]) -> str:
    return (next(iter(form))[0] or b"").decode()
