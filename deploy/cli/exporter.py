"""`pipeline exporter`: lag, stuck transactions, broker and books for Prometheus, from outside."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from common import log
from common.entry import run_process
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, example
from deploy.cli.stacks import running_or_named
from deploy.exporter.config import ExporterSettings
from deploy.exporter.run import run
from deploy.local.home import read_secret

ROLE = "reader"
PORT = 9308
app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    **example(
        "how far is each group, seen from outside?",
        "pipeline exporter &",
        f"curl -s localhost:{PORT}/metrics | grep kafka_group_lag_records",
    )
)
def exporter(
    home: HomeOption = DEFAULT,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where /metrics listens; 0: PIPELINE_HEALTH_PORT.")
    ] = PORT,
) -> None:
    """Look at the broker and the tables every few seconds, and serve what was found at /metrics.

    It reports what no worker can report of itself: the lag of a group whose members are all dead, a transaction that
    no process ends, partitions without a leader, stock that does not balance. It joins no group and changes nothing.
    The servers are those of the stack in --home; without one, those of PIPELINE_KAFKA_BOOTSTRAP, PIPELINE_POSTGRES_URL
    and the rest of the environment, as `python -m deploy.exporter` takes them. docs/metrics.md explains every metric.
    """
    settings = _settings(home)
    settings = settings.model_copy(update={"health_port": port or settings.health_port})
    log.configure(settings, service="exporter")
    run_process(partial(run, settings))


def _settings(home: Path) -> ExporterSettings:
    found = running_or_named(home, ExporterSettings, "pipeline")
    if isinstance(found, ExporterSettings):
        return found
    return ExporterSettings(
        namespace="",
        kafka_bootstrap=found.kafka_bootstrap,
        registry_url=found.registry_url,
        postgres_url=found.postgres_url(ROLE),
        postgres_password=SecretStr(read_secret(found.role_secrets_folder / ROLE)),
    )
