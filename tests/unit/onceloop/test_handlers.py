from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from onceloop.config import MESSAGE_BYTES_MAX
from onceloop.errors import ContractError, Poison
from onceloop.handlers import AllAtOnce, Each, HandlerRaised, OutputCheck, Refused, refuse_async
from onceloop.records import InputRecord, OutputRecord, Partition

RECORDS = [InputRecord(Partition("in", 0), offset, b"key", b"value") for offset in range(3)]
BOOKED = OutputRecord("booked", b"key", b"value")


def never() -> bool:
    return False


def each(handler: Callable[..., Any], *, prefix: str = "") -> list[tuple[OutputRecord, ...]]:
    return Each(handler, OutputCheck(["booked"], prefix=prefix))(RECORDS, None, enough=never)


def at_once(handler: Callable[..., Any]) -> list[tuple[OutputRecord, ...]]:
    return AllAtOnce(handler, OutputCheck(["booked"], prefix=""))(RECORDS, None, enough=never)


def generator(_record: InputRecord, _db: Any) -> Iterator[OutputRecord]:
    yield BOOKED


def test_none_a_list_and_a_generator_will_do() -> None:
    assert each(lambda _record, _db: None) == [(), (), ()]
    assert each(lambda _record, _db: [BOOKED]) == [(BOOKED,)] * 3
    assert each(generator) == [(BOOKED,)] * 3
    assert at_once(lambda records, _db: ([BOOKED] for _ in records)) == [(BOOKED,)] * 3


def test_prefix_is_put_before_the_topic() -> None:
    assert each(generator, prefix="test.")[0][0].topic == "test.booked"


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (BOOKED, "returned OutputRecord"),
        ("booked", "returned str"),
        (7, "returned int"),
        ([("booked", b"", b"")], "list with tuple"),
        ([OutputRecord("elsewhere", b"k", b"v")], "'elsewhere', which is none of its outputs: booked"),
        ([OutputRecord("booked", "k", b"v")], "whose key is str"),  # type: ignore[arg-type]
        ([OutputRecord("booked", b"k", {"cents": 1})], "whose value is dict"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_output_breaks_the_contract(returned: object, text: str) -> None:
    with pytest.raises(ContractError, match=text) as refused:
        each(lambda _record, _db: returned)
    assert refused.value.cure


@pytest.mark.parametrize("returned", [None, [[BOOKED]], [[]] * 4])
def test_batch_handler_answers_record_by_record(returned: object) -> None:
    with pytest.raises(ContractError, match="the batch handler returned"):
        at_once(lambda _records, _db: returned)


def test_output_that_no_topic_takes_is_held_against_the_record() -> None:
    with pytest.raises(HandlerRaised) as raised:
        each(lambda _record, _db: [OutputRecord("booked", b"k", b"v" * MESSAGE_BYTES_MAX)])
    assert isinstance(raised.value.error, Poison)
    assert raised.value.error.error_class == "output"


def test_exception_comes_with_the_index_of_its_record() -> None:
    def refuse_second(record: InputRecord, _db: Any) -> None:
        if record.offset == 1:
            raise Refused("the second")

    with pytest.raises(HandlerRaised) as raised:
        each(refuse_second)
    assert (raised.value.index, str(raised.value.error)) == (1, "the second")


def test_batch_that_raises_names_no_record() -> None:
    def refuse(_records: Sequence[InputRecord], _db: Any) -> None:
        raise Refused("one of them")

    with pytest.raises(HandlerRaised) as raised:
        at_once(refuse)
    assert raised.value.index is None


def test_enough_ends_the_work_between_two_records() -> None:
    seen = []
    handling = Each(lambda record, _db: seen.append(record), OutputCheck([], prefix=""))
    assert handling(RECORDS, None, enough=lambda: len(seen) == 2) == [(), ()]


async def coroutine(_record: InputRecord, _db: Any) -> None:
    """Await nothing."""


async def stream(_record: InputRecord, _db: Any) -> AsyncIterator[OutputRecord]:
    yield BOOKED


class Awaited:
    async def __call__(self, record: InputRecord, db: Any) -> None:
        """Await nothing."""


@pytest.mark.parametrize("handler", [coroutine, stream, partial(coroutine), Awaited()])
def test_async_handler_is_refused_where_it_is_decorated(handler: Callable[..., Any]) -> None:
    with pytest.raises(ContractError, match="is async: the loop has one thread"):
        refuse_async(handler)


def test_plain_handler_is_not_refused() -> None:
    refuse_async(generator)
    refuse_async(lambda _record, _db: None)
