"""`python -m deploy.exporter`: the exporter, where the environment leads it. Wiring only."""

from common import log
from common.config import load
from common.entry import run_process
from deploy.exporter.config import ExporterSettings
from deploy.exporter.run import run


def main() -> None:
    """Read settings, look and serve until a signal."""
    settings = load(ExporterSettings)
    log.configure(settings, service="exporter")
    run(settings)


if __name__ == "__main__":
    run_process(main)
