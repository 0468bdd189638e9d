"""`python -m order_service api` serves HTTP, `python -m order_service projection` keeps the status. Wiring only.

Each imports its own inside: the API's processes share their metrics, which must be arranged before anything counts.
"""

import sys

from common import log
from common.config import load
from common.entry import run_process
from common.metrics_folder import shared
from onceloop.errors import ExitCode
from order_service.config import ApiSettings, ProjectionSettings

USAGE = "usage: python -m order_service api | projection\n"


def api() -> None:
    """Serve orders over HTTP until a signal."""
    settings = load(ApiSettings)
    log.configure(settings, service="order-api")
    with shared(settings.http_metrics_dir) as metrics_folder:
        from order_service.io import server

        server.run(settings, metrics_folder=metrics_folder)


def projection() -> None:
    """Keep the status of orders until a signal."""
    from order_service.io import worker

    settings = load(ProjectionSettings)
    log.configure(settings, service="order-projection", slot=settings.slot)
    worker.run(settings)


if __name__ == "__main__":
    commands = {"api": api, "projection": projection}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:  # noqa: PLR2004 - the program and one word
        sys.stderr.write(USAGE)
        sys.exit(ExitCode.USAGE)
    run_process(commands[sys.argv[1]])
