"""A running API with its projection, and what it writes: for tests of the HTTP contract."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.topics import ORDERS_CREATED
from tests.api import Api, running_api, start_projection
from tests.pipeline import Pipeline, open_pipeline
from tests.records import Seen, read
from tests.stack import Stack


@dataclass(frozen=True, slots=True)
class Shop:
    """Shared by the tests of a module; users keep them apart."""

    pipeline: Pipeline
    api: Api

    def written(self) -> int:
        """Return how many records were ever written to `orders.created`."""
        ends = self.pipeline.admin.stable_ends([ORDERS_CREATED])
        return sum(ends.values())

    def records(self, user_id: str) -> list[Seen]:
        return [seen for seen in read(self.pipeline, ORDERS_CREATED) if seen.key == user_id.encode()]


@contextmanager
def open_shop(servers: Stack, *, logs: Path) -> Iterator[Shop]:
    with open_pipeline(servers, logs=logs) as pipeline:
        projection = start_projection(pipeline)
        with running_api(pipeline) as (api, _):
            projection.wait_ready()
            yield Shop(pipeline, api)
