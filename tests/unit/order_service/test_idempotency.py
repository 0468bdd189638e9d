"""What an Idempotency-Key means."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events.orders import OrderLine
from order_service.core.idempotency import Claim, KeyRow, fingerprint, judge
from order_service.core.placement import PlaceOrder

TEA = PlaceOrder("ada", (OrderLine("tea", 2), OrderLine("mug", 1)))
ROW = KeyRow("ada", "k", fingerprint(TEA), "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f", b"event")

commands = st.builds(
    PlaceOrder,
    st.sampled_from(["ada", "bob", "ad", '"a']),
    st.lists(st.builds(OrderLine, st.sampled_from(["a", "b", 'a","b', "ab"]), st.integers(1, 3)), max_size=3).map(
        tuple
    ),
)


def test_row_of_this_very_request_means_new() -> None:
    assert judge(ROW, ROW, as_sent=ROW.fingerprint) is Claim.NEW


def test_same_request_under_the_same_key_is_a_replay() -> None:
    again = replace(ROW, order_id="01990b3c-5a01-7d3e-9f5c-3b7e6a1d2c4f", event=b"other event")
    assert judge(again, ROW, as_sent=again.fingerprint) is Claim.REPLAY


def test_other_request_under_the_same_key_is_a_conflict() -> None:
    other = replace(ROW, order_id="01990b3c-5a01-7d3e-9f5c-3b7e6a1d2c4f", fingerprint=b"other")
    assert judge(other, ROW, as_sent=other.fingerprint) is Claim.CONFLICT


def test_request_whose_row_holds_names_as_they_were_sent_is_a_replay() -> None:
    """A release before names were kept in one spelling wrote the row; a conflict would make its client order twice."""
    as_sent = PlaceOrder("ada", (OrderLine("cafe\u0301", 2),))
    before = replace(ROW, fingerprint=fingerprint(as_sent))
    kept = PlaceOrder("ada", (OrderLine("caf\u00e9", 2),))
    now = replace(ROW, order_id="01990b3c-5a01-7d3e-9f5c-3b7e6a1d2c4f", fingerprint=fingerprint(kept))
    assert judge(now, before, as_sent=fingerprint(as_sent)) is Claim.REPLAY
    assert judge(now, before, as_sent=fingerprint(kept)) is Claim.CONFLICT


@pytest.mark.parametrize(
    "other",
    [
        PlaceOrder("bob", TEA.lines),
        PlaceOrder("ada", TEA.lines[:1]),
        PlaceOrder("ada", TEA.lines[::-1]),
        PlaceOrder("ada", (OrderLine("tea", 1), OrderLine("mug", 2))),
    ],
)
def test_fingerprint_distinguishes_requests(other: PlaceOrder) -> None:
    assert fingerprint(other) != fingerprint(TEA)


@given(commands, commands)
def test_fingerprints_are_equal_exactly_for_equal_requests(one: PlaceOrder, other: PlaceOrder) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_fingerprint_outlives_a_release() -> None:
    """Rows hold fingerprints for a day: another form of the same request would refuse its retries."""
    assert fingerprint(TEA).hex() == "986d92c3ceeb2faad3a116a112b71191e4b46f9173b4f3930dbb2e6262bb915a"


@dataclass(frozen=True, slots=True)
class LaterRelease(PlaceOrder):
    note: str | None = None


def test_fingerprint_outlives_a_release_that_adds_a_member() -> None:
    assert fingerprint(LaterRelease(TEA.user_id, TEA.lines)) == fingerprint(TEA)
    assert fingerprint(LaterRelease(TEA.user_id, TEA.lines, "ring twice")) != fingerprint(TEA)
