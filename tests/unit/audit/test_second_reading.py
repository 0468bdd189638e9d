"""The checker's own reading agrees with the services' on what is an order: two hands, one rule."""

from hypothesis import given
from hypothesis import strategies as st

from audit.readers.avro import Registry, UnreadableError, impossible
from common.events.codec import schema_text
from common.events.orders import OrderCreated, OrderLine
from onceloop.errors import Undecodable
from tests.factories import make_codec, make_order

EVENTS = ("OrderCreated", "InventoryReserved", "InventoryFailed", "NotificationSent")
CODEC = make_codec()

names = st.one_of(
    st.sampled_from(["", "tea", "mug", "a\0b", "a\nb", "é", "\u2028", "x" * 64, "x" * 65, "x" * 128, "x" * 129]),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=4),
)
orders = st.builds(
    OrderCreated,
    order_id=st.one_of(st.uuids().map(str), st.uuids().map(lambda found: str(found).upper()), st.just("7f1c")),
    user_id=names,
    lines=st.lists(
        st.builds(OrderLine, sku=names, quantity=st.sampled_from([-1, 0, 1, 10_000, 10_001])), max_size=4
    ).map(tuple),
    placed_at_ms=st.sampled_from([-1, 0, 1, 1_800_000_000_000, 253_402_300_799_999, 253_402_300_800_000]),
)


class Packaged(Registry):
    """The packaged schemas by number, as the codec of the tests numbers them."""

    def __init__(self) -> None:
        super().__init__("http://nowhere.invalid")

    def _read(self, schema_id: int) -> str | None:
        return schema_text(EVENTS[schema_id - 1]) if 0 < schema_id <= len(EVENTS) else None


REGISTRY = Packaged()


def read_by_checker(value: bytes) -> bool:
    try:
        return not impossible(REGISTRY.decode(value, "OrderCreated"))
    except UnreadableError:
        return False


def read_by_services(value: bytes) -> bool:
    try:
        CODEC.decode(OrderCreated, value)
    except Undecodable:
        return False
    return True


@given(orders)
def test_both_find_the_same_orders_possible(order: OrderCreated) -> None:
    value = CODEC.encode(order)

    assert read_by_checker(value) == read_by_services(value)


@given(st.data())
def test_both_find_the_same_bytes_readable(data: st.DataObject) -> None:
    whole = bytearray(CODEC.encode(make_order(lines=[("tea", 2), ("mug", 1)])))
    for at in data.draw(st.lists(st.integers(5, len(whole) - 1), max_size=3)):
        whole[at] = data.draw(st.integers(0, 255))
    value = bytes(whole[: data.draw(st.integers(0, len(whole)))]) + data.draw(st.binary(max_size=2))

    assert read_by_checker(value) == read_by_services(value)
