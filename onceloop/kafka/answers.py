"""Wait for what an admin client was asked for."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

T = TypeVar("T")


def results(futures: Mapping[Any, Future[T]], *, seconds: float, passing: int | None = None) -> dict[Any, T]:
    """Return the results; an item that ends with the error `passing` is left out.

    Raises KafkaException, `_TIMED_OUT` after these seconds without one: the client does not always keep its own limit.
    """
    found = {}
    for name, future in futures.items():
        try:
            found[name] = future.result(seconds)
        except TimeoutError:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None  # noqa: SLF001 - a public name of librdkafka
        except KafkaException as error:
            if error.args[0].code() != passing:
                raise
    return found
