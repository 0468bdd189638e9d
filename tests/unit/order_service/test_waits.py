"""How long requests wait for a status, and how many of them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from order_service.core.status import OrderStatus
from order_service.io.waits import Look, Waits

FOUND = OrderStatus("01963c1e-7b44-7000-8000-0000000000ff", "ada")
LONG_SECONDS = 10.0


def test_what_is_there_is_returned_at_once_however_many_wait() -> None:
    assert Waits(0, stopping=lambda: False).look(lambda: FOUND, seconds=LONG_SECONDS) == Look(FOUND, waited=True)


def test_what_comes_in_time_is_returned() -> None:
    answers = iter([None, None, FOUND])
    assert Waits(1, stopping=lambda: False).look(lambda: next(answers), seconds=LONG_SECONDS).found is FOUND


def test_wait_ends_with_its_time() -> None:
    began = time.monotonic()
    assert Waits(1, stopping=lambda: False).look(lambda: None, seconds=0.2) == Look(None, waited=True)
    assert 0.2 <= time.monotonic() - began < LONG_SECONDS


def test_stop_ends_waits_early() -> None:
    began = time.monotonic()
    assert Waits(1, stopping=lambda: True).look(lambda: None, seconds=LONG_SECONDS).found is None
    assert time.monotonic() - began < LONG_SECONDS / 2


def test_who_finds_no_place_looks_once_and_goes_on_at_once() -> None:
    """Red before: 64 requests for made-up ids held every thread for a second each, `Prefer: wait` for ten."""
    ended = threading.Event()
    waits = Waits(2, stopping=ended.is_set)
    placed = [threading.Event(), threading.Event()]

    def wait(number: int) -> bool:
        looks = 0

        def find() -> None:
            nonlocal looks
            looks += 1
            if looks > 1:  # only from a place
                placed[number].set()

        return waits.look(find, seconds=LONG_SECONDS).waited

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(wait, number) for number in range(2)]
        assert all(each.wait(LONG_SECONDS) for each in placed)
        began = time.monotonic()
        assert waits.look(lambda: None, seconds=LONG_SECONDS) == Look(None, waited=False)
        assert time.monotonic() - began < LONG_SECONDS / 2
        ended.set()
        assert [each.result() for each in both] == [True, True]
