"""`python -m metrics_service windows` counts per partition, `python -m metrics_service totals` adds up. Wiring only."""

import sys
import time
from functools import partial

from common import health, log, metrics
from common.config import load
from common.entry import run_process
from common.errors import ExitCode
from common.events.volume import MinuteVolume, VolumePartial
from common.kafka.admin import Admin
from common.kafka.consumer import GroupConsumer
from common.kafka.coverage import CoverageWatch
from common.kafka.options import admin_options, consumer_options, transactional_producer_options
from common.kafka.producer import TransactionalProducer
from common.kafka.schema_registry import open_codec
from common.kafka.topic_watch import TopicWatch
from common.kafka.transactional_loop import run
from common.lifecycle import stop_signal
from common.topics import METRICS, METRICS_PARTIALS, METRICS_TOTALS, MINUTE_VOLUMES, Group, Topic
from metrics_service.config import MetricsSettings
from metrics_service.core.windows import Patience
from metrics_service.io.newest import newest
from metrics_service.io.totals_step import TotalsStep
from metrics_service.io.windows_step import SOURCES, WindowsStep

USAGE = "usage: python -m metrics_service windows | totals\n"


def windows() -> None:
    """Count outcome events per partition and minute until a signal."""
    settings = load(MetricsSettings)
    log.configure(settings, service=METRICS.name, slot=settings.slot)
    codec = open_codec(settings, (*SOURCES, METRICS_PARTIALS))
    topic = METRICS_PARTIALS.within(settings.namespace)
    step = WindowsStep(
        codec=codec,
        namespace=settings.namespace,
        patience=Patience(settings.lateness_ms, settings.idle_ms),
        now_ms=now_ms,
        newest_partials=partial(newest, admin_options(settings), topic, codec, VolumePartial),
    )
    work(settings, step, group=METRICS, sources=SOURCES)


def totals() -> None:
    """Add partials up until a signal."""
    settings = load(MetricsSettings)
    log.configure(settings, service=METRICS_TOTALS.name, slot=settings.slot)
    codec = open_codec(settings, (METRICS_PARTIALS, MINUTE_VOLUMES))
    topic = MINUTE_VOLUMES.within(settings.namespace)
    step = TotalsStep(
        codec=codec,
        namespace=settings.namespace,
        settle_ms=settings.settle_ms,
        empty_minute_ms=settings.empty_minute_ms,
        horizon_ms=settings.horizon_ms,
        now_ms=now_ms,
        newest_totals=partial(newest, admin_options(settings), topic, codec, MinuteVolume),
    )
    work(settings, step, group=METRICS_TOTALS, sources=(METRICS_PARTIALS,))


def work(
    settings: MetricsSettings, step: WindowsStep | TotalsStep, *, group: Group, sources: tuple[Topic, ...]
) -> None:
    """Run the loop with this step; all that it reads is written in transactions."""
    consuming = consumer_options(settings, group=group, slot=settings.slot)
    producing = transactional_producer_options(settings, service=group.name, slot=settings.slot)
    names = [topic.within(settings.namespace) for topic in sources]
    state = health.Health()
    shown = metrics.of_worker("metrics_")
    with stop_signal() as stop, health.serve(state, host=settings.health_host, port=settings.health_port, shown=shown):
        run(
            step,
            consumer=GroupConsumer(
                consuming,
                names,
                coverage=CoverageWatch(settings, group=group, topics=sources),
                untouched=step.untouched,
            ),
            build_producer=partial(TransactionalProducer, producing, service=group.name),
            stop=stop,
            health=state,
            service=group.name,
            watch=TopicWatch(settings, Admin(settings).topic_ids(sources)),
            sparse_topics=frozenset(names),
        )


def now_ms() -> int:
    """Return the wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    commands = {"windows": windows, "totals": totals}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:  # noqa: PLR2004 - the program and one word
        sys.stderr.write(USAGE)
        sys.exit(ExitCode.USAGE)
    run_process(commands[sys.argv[1]])
