"""`python -m metrics_service windows` counts per partition, `... totals` adds up. Wiring only.

`... repair` sets the offsets of both groups to where counting goes on, while none of their processes runs.
"""

import sys
import time
from collections.abc import Mapping
from functools import partial

from common import log, metrics
from common.config import load
from common.entry import run_process
from common.events.volume import MinuteVolume, VolumePartial
from common.kafka.admin import Admin
from common.kafka.members import building_producers, join, member_options, writer_options
from common.kafka.schema_registry import open_codec
from common.memory import spare_the_collector
from common.telemetry import RUNTIME, serving_probes
from common.topics import METRICS, METRICS_PARTIALS, METRICS_TOTALS, MINUTE_VOLUMES, Group, Topic
from metrics_service.config import MetricsSettings
from metrics_service.core.windows import Patience
from metrics_service.io.newest import newest
from metrics_service.io.repair import Repair
from metrics_service.io.start_guard import StartGuard
from metrics_service.io.totals_step import TotalsStep
from metrics_service.io.windows_step import SOURCES, WindowsStep
from onceloop.errors import ExitCode
from onceloop.health import Health
from onceloop.kafka.looking_back import earliest
from onceloop.kafka.options import admin_options
from onceloop.kafka.topic_watch import TopicWatch
from onceloop.lifecycle import stop_signal
from onceloop.transactional import run

GATHER_SECONDS = 0.25
NO_HURRY = {"fetch.min.bytes": 65_536}
"""A fetch waits for so much, or for `fetch.wait.max.ms`: a minute is closed seconds after its end at the earliest."""
USAGE = "usage: python -m metrics_service windows | totals | repair\n"


def windows() -> None:
    """Count outcome events per partition and minute until a signal."""
    settings = load(MetricsSettings)
    log.configure(settings, service=METRICS.name, slot=settings.slot)
    codec = open_codec(settings, (*SOURCES, METRICS_PARTIALS))
    topic = METRICS_PARTIALS.within(settings.namespace)
    topic_ids = Admin(settings).topic_ids(SOURCES)
    step = WindowsStep(
        codec=codec,
        namespace=settings.namespace,
        patience=Patience(settings.lateness_ms, settings.idle_ms),
        now_ms=now_ms,
        newest_partials=partial(newest, admin_options(settings.kafka), topic, codec, VolumePartial),
        guard=guarding(settings, topic_ids, group=METRICS),
    )
    work(settings, step, group=METRICS, sources=SOURCES, topic_ids=topic_ids)


def totals() -> None:
    """Add partials up until a signal."""
    settings = load(MetricsSettings)
    log.configure(settings, service=METRICS_TOTALS.name, slot=settings.slot)
    codec = open_codec(settings, (METRICS_PARTIALS, MINUTE_VOLUMES))
    topic = MINUTE_VOLUMES.within(settings.namespace)
    topic_ids = Admin(settings).topic_ids([METRICS_PARTIALS])
    step = TotalsStep(
        codec=codec,
        namespace=settings.namespace,
        settle_ms=settings.settle_ms,
        empty_minute_ms=settings.empty_minute_ms,
        horizon_ms=settings.horizon_ms,
        now_ms=now_ms,
        newest_totals=partial(newest, admin_options(settings.kafka), topic, codec, MinuteVolume),
        guard=guarding(settings, topic_ids, group=METRICS_TOTALS),
    )
    work(settings, step, group=METRICS_TOTALS, sources=(METRICS_PARTIALS,), topic_ids=topic_ids)


def repair() -> None:
    """Set the offsets of both groups from what is published. Nothing is deleted, nothing counted twice."""
    settings = load(MetricsSettings)
    log.configure(settings, service=METRICS.name, slot=settings.slot)
    repairing = Repair(settings, open_codec(settings, (METRICS_PARTIALS, MINUTE_VOLUMES)))
    repairing.windows()
    repairing.totals()


def guarding(settings: MetricsSettings, topic_ids: Mapping[str, str], *, group: Group) -> StartGuard:
    """Return what looks at the group's offsets before anything is counted."""
    return StartGuard(group=group.name, topic_ids=topic_ids, earliest=partial(earliest, admin_options(settings.kafka)))


def work(
    settings: MetricsSettings,
    step: WindowsStep | TotalsStep,
    *,
    group: Group,
    sources: tuple[Topic, ...],
    topic_ids: Mapping[str, str],
) -> None:
    """Run the loop with this step; all that it reads is written in transactions."""
    consuming = {**NO_HURRY, **member_options(settings, group, slot=settings.slot)}
    producing = writer_options(settings, group, slot=settings.slot)
    state = Health()
    spare_the_collector()
    with stop_signal() as stop, serving_probes(state, settings, metrics.of_worker("metrics_")):
        run(
            step,
            consumer=join(consuming, settings, group, sources, untouched=step.untouched, gather_seconds=GATHER_SECONDS),
            build_producer=building_producers(producing, group),
            stop=stop,
            health=state,
            service=group.name,
            watch=TopicWatch(settings.kafka, topic_ids),
            sparse_topics=frozenset(topic_ids),
            runtime=RUNTIME,
        )


def now_ms() -> int:
    """Return the wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    commands = {"windows": windows, "totals": totals, "repair": repair}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:  # noqa: PLR2004 - the program and one word
        sys.stderr.write(USAGE)
        sys.exit(ExitCode.USAGE)
    run_process(commands[sys.argv[1]])
