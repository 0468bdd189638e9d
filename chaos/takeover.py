"""A worker dies for good: how soon are its partitions served by another? With the time-outs that are shipped."""

import time

from chaos.history import Run
from chaos.load import Mix
from chaos.run.findings import Findings, record
from chaos.run.pipeline import Servers
from chaos.run.watch import Watch

SUBJECT = "takeover with the shipped time-outs"
PARTITIONS = 4
ORDERS = 200
SERVED_SECONDS_MAX = 30.0


def run(servers: Servers, *, seed: int) -> Run:
    """Kill one of two workers and start none in its place; `recovery_seconds`: until all partitions are served."""

    def act(found: Findings) -> None:
        with servers.pipeline("takeover", partitions=PARTITIONS) as pipeline:
            pipeline.options = pipeline.worker_options = {}
            pipeline.stock(Mix(seed=seed))
            dying, _heir = pipeline.start("inventory", 0), pipeline.start("inventory", 1)
            watch = pipeline.open(Watch(pipeline.settings))
            pipeline.wait_ready()
            pipeline.load(direct=ORDERS)
            everywhere = frozenset(range(PARTITIONS))
            pipeline.wait(lambda: watch.all_partitions_after(0.0, everywhere), "every partition served")
            with pipeline.held(dying):
                moment = time.monotonic()
                pipeline.shoot(dying)
                pipeline.load(direct=ORDERS)
                served = pipeline.wait(
                    lambda: watch.all_partitions_after(moment, everywhere),
                    "every partition served by the other worker",
                    seconds=SERVED_SECONDS_MAX,
                )
                found.recovery_seconds = round(served, 3)
                pipeline.load(direct=ORDERS)
                found.judged(pipeline.audit(wait_seconds=SERVED_SECONDS_MAX, followers=False))

    return record(act, tier="matrix", subject=SUBJECT, seed=seed, name="takeover")
