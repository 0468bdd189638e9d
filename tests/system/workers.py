"""Inventory workers under the chaos launcher, and the checker's verdict over what they did."""

import json
from pathlib import Path

from audit.config import CheckerSettings
from audit.rules.judge import Judgement
from audit.whole import audit
from chaos.run.plan import Arm, Fired, read_evidence, write_plan
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import wait_for

FAST = {
    "PIPELINE_KAFKA_CONSUMER_OPTIONS": json.dumps({"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}),
    "PIPELINE_KAFKA_PRODUCER_OPTIONS": json.dumps(
        {"transaction.timeout.ms": 4000, "message.timeout.ms": 3000, "socket.timeout.ms": 2000}
    ),
}
"""Shorter time-outs in the order that production's have."""
SHIPPED = dict.fromkeys(FAST, "{}")
"""Those that are shipped: for a test in which nothing may run out, however slow the machine is."""


class Workers:
    """The slots of one pipeline, with one plan and one evidence file for all of them."""

    def __init__(self, pipeline: Pipeline, folder: Path, *, batch_records_max: int = 25) -> None:
        self.pipeline = pipeline
        self._plan = folder / "plan.json"
        self._evidence = folder / "evidence.jsonl"
        self._env = {
            **FAST,
            "PIPELINE_BATCH_RECORDS_MAX": str(batch_records_max),
            "CHAOS_PLAN": str(self._plan),
            "CHAOS_EVIDENCE": str(self._evidence),
        }

    def arm(self, *arms: Arm) -> None:
        write_plan(self._plan, arms)

    def start(self, slot: int = 0, **env: str) -> Process:
        """Start the slot's worker; `env` adds to its environment."""
        return self.pipeline.start(
            "chaos.run.launch", "inventory_service", role="inventory_rw", slot=slot, env={**self._env, **env}
        )

    def fired(self, arm: Arm) -> Fired | None:
        return next((line for line in read_evidence(self._evidence) if line.arm == arm.id), None)

    def wait_fired(self, arm: Arm) -> Fired:
        wait_for(lambda: self.fired(arm) is not None, what=f"the hit of {arm.point}")
        fired = self.fired(arm)
        assert fired is not None
        return fired


def verdict(pipeline: Pipeline, *, wait_seconds: float = 30) -> Judgement:
    """Wait until each order has its outcome, then judge the books."""
    checker = pipeline.postgres("checker")
    settings = CheckerSettings(
        namespace=pipeline.namespace,
        kafka_bootstrap=pipeline.kafka.kafka_bootstrap,
        registry_url=pipeline.kafka.registry_url,
        postgres_url=checker.postgres_url,
        postgres_password=checker.postgres_password,
    )
    return audit(settings, wait_seconds=wait_seconds, followers=False, restocked=False)


def assert_sound(pipeline: Pipeline, *, orders: int) -> Judgement:
    """Assert that the checker saw so many orders and finds nothing wrong."""
    judgement = verdict(pipeline)
    faults = broken(judgement)
    assert not faults, "\n".join(faults)
    assert judgement.counts["orders"] == orders, judgement.counts
    return judgement


def broken(judgement: Judgement) -> list[str]:
    """Return one line per broken rule: how often, and the first culprit's way."""
    lines = []
    for ruling in judgement.rulings:
        for culprit in ruling.examples[:1]:
            way = " | ".join(judgement.paths.get(culprit.order_id or "", ()))
            lines.append(f"{ruling.invariant} ({ruling.broken}x): {culprit.what}: {culprit.order_id}: {way}")
    return lines
