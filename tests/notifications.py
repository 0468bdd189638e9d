"""Outcome events with defaults, a notification worker, and what it left behind: ledger, topic, log."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uuid_utils

from chaos.run.plan import Arm, write_plan
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import NotificationSent
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION, NOTIFICATION_SENT, Topic
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import codec_of, read, wait_for, write

Outcome = InventoryReserved | InventoryFailed


def make_reserved(user_id: str = "ada") -> InventoryReserved:
    order = make_order(lines=[("tea", 2), ("mug", 1)], user_id=user_id)
    return InventoryReserved(_id(), order.order_id, user_id, order.lines, order.placed_at_ms, order.placed_at_ms + 5)


def make_failed(user_id: str = "ada") -> InventoryFailed:
    order = make_order(lines=[("tea", 2)], user_id=user_id)
    at = order.placed_at_ms
    return InventoryFailed(
        _id(), order.order_id, user_id, order.lines, Reason.INSUFFICIENT_STOCK, "tea", 2, 1, at, at + 5
    )


def _id() -> str:
    return str(uuid.UUID(bytes=uuid_utils.uuid7().bytes))


def start_worker(pipeline: Pipeline, *launcher: str, env: Mapping[str, str] | None = None) -> Process:
    module, *arguments = (*launcher, "notification_service")
    return pipeline.start(module, *arguments, role="notification_rw", env=env)


def write_outcomes(pipeline: Pipeline, *outcomes: Outcome, partition: int = -1) -> None:
    codec = codec_of(pipeline)
    for topic, kind in ((INVENTORY_RESERVED, InventoryReserved), (INVENTORY_FAILED, InventoryFailed)):
        of_kind = [outcome for outcome in outcomes if isinstance(outcome, kind)]
        write(pipeline, topic, ((o.user_id.encode(), codec.encode(o)) for o in of_kind), partition=partition)


def ledger(pipeline: Pipeline) -> dict[str, Any]:
    """Return the rows by order id."""
    with pipeline.administer() as connection:
        return {str(row.order_id): row for row in connection.execute(sa.text("SELECT * FROM notification.ledger"))}


def sent(pipeline: Pipeline) -> list[NotificationSent]:
    codec = codec_of(pipeline)
    return [codec.decode(NotificationSent, seen.value) for seen in read(pipeline, NOTIFICATION_SENT)]


def wait_published(pipeline: Pipeline, *outcomes: Outcome) -> None:
    """Wait until a `NotificationSent` stands on the topic for each of them."""
    wanted = {outcome.order_id for outcome in outcomes}
    wait_for(lambda: wanted <= {event.order_id for event in sent(pipeline)}, what="the published notifications")


def committed(pipeline: Pipeline, topic: Topic) -> int:
    """Return the sum of the group's committed offsets on a topic."""
    name = topic.within(pipeline.namespace)
    return sum(point.offset for at, point in pipeline.admin.committed(NOTIFICATION).items() if at.topic == name)


def written(worker: Process, outcome: Outcome) -> int:
    """Return how many messages the log channel wrote for an order."""
    return sum(outcome.order_id in line for line in worker.output().splitlines() if "message.written" in line)


def by_mail(port: int) -> dict[str, str]:
    return {"PIPELINE_NOTIFICATION_CHANNEL": "smtp", "PIPELINE_SMTP_PORT": str(port)}


def armed(folder: Path, *arms: Arm) -> dict[str, str]:
    write_plan(folder / "plan.json", arms)
    return {"CHAOS_PLAN": str(folder / "plan.json"), "CHAOS_EVIDENCE": str(folder / "evidence.jsonl")}
