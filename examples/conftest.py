"""For this repository: `pytest --onceloop examples/ledger` starts servers of its own unless it is given some."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.local.stack import servers
from onceloop.testing import Servers


@pytest.hookimpl(optionalhook=True)
def pytest_onceloop_servers(config: pytest.Config) -> Servers:
    """Start a broker and PostgreSQL on free ports; they and their data are gone when pytest ends."""
    opened = ExitStack()
    config.add_cleanup(opened.close)
    folder = Path(opened.enter_context(TemporaryDirectory(prefix="onceloop-")))
    started = opened.enter_context(servers.start(folder, only=(servers.KAFKA, servers.POSTGRES)))
    return Servers(started.addresses.kafka_bootstrap, started.addresses.postgres_dsn(database="postgres"))
