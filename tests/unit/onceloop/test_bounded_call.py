"""Calls that end for their caller, whether they return or not."""

import gc
import threading
import weakref

import pytest

from onceloop import bounded_call
from onceloop.bounded_call import STUCK_MAX, Caller, Unanswered
from onceloop.errors import FatalError


def test_call_is_made_on_one_other_thread_and_its_error_is_raised_here() -> None:
    caller, threads = Caller(), list[threading.Thread]()

    def fail() -> None:
        raise ValueError("the client's own")

    for _ in range(2):
        caller.call(5, lambda: threads.append(threading.current_thread()))
    with pytest.raises(ValueError, match="the client's own"):
        caller.call(5, fail)
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    caller.close()
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_call_that_failed_keeps_nothing_of_what_it_used() -> None:
    """Red before: each producer that was given up after such a call lived on, since a worker's collector hardly ever
    looks at what is old: 11 descriptors and seven megabytes for each."""

    class Client:
        def send(self) -> None:
            raise ValueError("the client's own")

    def attempt() -> weakref.ref[Client]:
        client, caller = Client(), Caller()
        with pytest.raises(ValueError, match="the client's own"):
            caller.call(5, lambda: client.send())  # noqa: PLW0108 - as callers do, by a closure
        caller.close()
        return weakref.ref(client)

    gc.disable()
    try:
        left = attempt()
        assert left() is None
    finally:
        gc.enable()


def test_call_that_does_not_return_is_left_behind__and_too_many_of_them_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded_call, "_stuck", [])
    returned = threading.Event()
    for _ in range(STUCK_MAX + 1):
        caller = Caller()
        with pytest.raises(Unanswered):
            caller.call(0.01, returned.wait)
        caller.close()
    with pytest.raises(FatalError, match="4 calls of the Kafka client have not returned"):
        Caller()
    stuck = list(bounded_call._stuck)
    returned.set()
    for thread in stuck:
        thread.join(5)
    Caller()  # they have returned: nothing is left of them
