"""What an answer says of earlier requests with the same key."""

import json
from dataclasses import replace

import pytest
from werkzeug.wrappers import Response

from common.events.orders import OrderLine
from order_service.core.idempotency import KeyRow, fingerprint
from order_service.core.placement import PlaceOrder
from tests.counter import Counter, ask
from tests.factories import make_order

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def place(counter: Counter, key: str | None = "k", *, user_id: str = "ada", sku: str = "tea", **more: str) -> Response:
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {}), **more}
    body = json.dumps({"user_id": user_id, "lines": [{"sku": sku, "quantity": 2}]})
    return ask(counter, "POST", "/orders", headers, body.encode())


def sign(answer: Response) -> str | None:
    return answer.headers.get("Idempotent-Replayed")


def test_repeated_key_is_answered_alike_and_says_so() -> None:
    counter = Counter()
    first, again, quoted = place(counter), place(counter), place(counter, '"k"')
    assert (sign(first), sign(again), sign(quoted)) == (None, "true", "true")
    assert first.get_data() == again.get_data() == quoted.get_data()
    assert first.headers["Location"] == again.headers["Location"]
    assert len(counter.topic) == 1


def test_orders_without_a_key_never_say_so() -> None:
    counter = Counter()
    assert [sign(place(counter, None)) for _ in range(2)] == [None, None]


def test_another_key_or_user_is_no_repetition() -> None:
    counter = Counter()
    answers = [place(counter, "k1"), place(counter, "k2"), place(counter, "k1", user_id="eve")]
    assert [sign(answer) for answer in answers] == [None, None, None]


@pytest.mark.parametrize("broken", ["acknowledgement", "broker"])
def test_key_that_was_answered_503_is_repeated_whether_or_not_its_order_was_on_the_topic(broken: str) -> None:
    """The order is the first request's either way, which is all that anybody can know: nothing was acknowledged."""
    counter = Counter(broken={broken})
    first, still = place(counter), place(counter)
    assert (first.status_code, still.status_code) == (503, 503)
    assert (sign(first), sign(still)) == (None, None), "of an order that may not be there nothing is repeated"

    counter.broken.clear()
    again, once_more = place(counter), place(counter)
    assert (again.status_code, sign(again), sign(once_more)) == (202, "true", "true")
    assert len({order.order_id for order in counter.orders()}) == 1
    assert json.loads(again.get_data())["order_id"] == counter.orders()[0].order_id


def test_key_whose_acknowledgement_was_not_marked_is_repeated_all_the_same() -> None:
    counter = Counter(broken={"marking"})
    first, again = place(counter), place(counter)
    assert (first.status_code, again.status_code) == (202, 202)
    assert (sign(first), sign(again)) == (None, "true")
    assert len(set(counter.topic)) == 1, "the same bytes once more"


def test_conflict_repeats_nothing() -> None:
    counter = Counter()
    place(counter)
    conflict = place(counter, sku="mug")
    assert (conflict.status_code, sign(conflict)) == (422, None)


def test_repetition_in_another_spelling_is_the_same_request() -> None:
    counter = Counter()
    first = place(counter, user_id=DECOMPOSED, sku=DECOMPOSED)
    again = place(counter, user_id=COMPOSED, sku=COMPOSED)
    assert (sign(first), sign(again)) == (None, "true")
    assert first.get_data() == again.get_data()


@pytest.mark.parametrize(("user_id", "sku"), [(DECOMPOSED, "tea"), ("ada", DECOMPOSED), (DECOMPOSED, DECOMPOSED)])
@pytest.mark.parametrize("acknowledged", [True, False])
def test_retry_of_a_request_that_an_older_release_took_gives_its_order(
    user_id: str, sku: str, *, acknowledged: bool
) -> None:
    """That release kept names as they were sent, in the row and in its fingerprint: a second order would be wrong."""
    counter = Counter()
    order = make_order(user_id=user_id, lines=[(sku, 2)])
    request = PlaceOrder(user_id, (OrderLine(sku, 2),))
    row = KeyRow(user_id, "k", fingerprint(request), order.order_id, counter.codec.encode(order))
    counter.rows[user_id, "k"] = replace(row, acknowledged=acknowledged)

    answer = place(counter, user_id=user_id, sku=sku)
    assert (answer.status_code, sign(answer)) == (202, "true")
    assert json.loads(answer.get_data())["order_id"] == order.order_id
    assert counter.orders() == ([] if acknowledged else [order]), "with the bytes of then"


@pytest.mark.parametrize(("asked", "applied"), [("wait=1000000", "wait=10"), ("wait=3", "wait=3"), ("wait=0", None)])
def test_wait_is_cut_to_the_maximum_and_the_answer_says_to_what(asked: str, applied: str | None) -> None:
    answer = place(Counter(), None, Prefer=asked)
    assert (answer.status_code, answer.headers.get("Preference-Applied")) == (202, applied)


def test_description_names_every_header_of_the_answer() -> None:
    described = json.loads(ask(Counter(), "GET", "/openapi.json").get_data())["paths"]["/orders"]["post"]["responses"]
    for status in ("200", "202"):
        assert set(described[status]["headers"]) == {"Location", "Preference-Applied", "Idempotent-Replayed"}
