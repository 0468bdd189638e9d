"""Start the stack's servers without the supervisor: for tests and measurements that kill and restart them by hand.

    with servers.start(tmp_path / "stack") as stack:
        connect(stack.addresses.kafka_bootstrap)
        stack.kafka.kill()
        stack.kafka.start()

Nothing restarts a server here but its handle; nothing is left when the block, or the process, ends.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import home as homes
from deploy.local.fetch import jars
from deploy.local.home import Home, NoStackError
from deploy.local.servers.addresses import Addresses
from deploy.local.servers.kafka import Kafka
from deploy.local.servers.kafka_controller import KafkaController
from deploy.local.servers.part import Part, Stage
from deploy.local.servers.postgres import Postgres
from deploy.local.servers.registry import Registry
from deploy.local.stack.ports import Claims, assign, recall
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Program
from deploy.local.supervise.process import Child, forget_libpq_variables, never, raise_open_files, stop_all
from deploy.local.supervise.runner import Runner, tick_until_settled

CONTROLLER, KAFKA, POSTGRES, REGISTRY = "controller", "kafka", "postgres", "registry"
ALL = (CONTROLLER, KAFKA, POSTGRES, REGISTRY)
NEEDS = {KAFKA: CONTROLLER, REGISTRY: POSTGRES}
"""What a server cannot do without."""
STOP_SECONDS = 2.5
NEEDED_STOP_SECONDS = 1.5
PORTS = ("kafka", "controller", "postgres", "registry", "registry_management")


class Handle:
    """One running server: kill it, freeze it, start it again."""

    def __init__(self, runner: Runner) -> None:
        """Hold the runner that started it."""
        self._runner = runner

    @property
    def pid(self) -> int:
        """The server's pid."""
        return self._child.pid

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._runner.log

    def kill(self) -> None:
        """SIGKILL it and all its processes; return when they are gone."""
        self._child.kill()

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Let it end in order; kill it if that takes too long."""
        stop_all([self._child], grace_seconds=grace_seconds)

    def start(self) -> None:
        """Start it again on the same data and ports; return when it serves."""
        self._runner.start_again()
        tick_until_settled([self._runner])

    def freeze(self) -> None:
        """SIGSTOP it and all its processes."""
        self._child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT them."""
        self._child.send(signal.SIGCONT)

    @property
    def _child(self) -> Child:
        if self._runner.child is None:
            raise RuntimeError(f"{self._runner.label} was never started")
        return self._runner.child


@dataclass(frozen=True, slots=True)
class Servers:
    """What `start` yields."""

    addresses: Addresses
    handles: Mapping[str, Handle]
    ports: Mapping[str, int]

    @property
    def controller(self) -> Handle:
        """The controller of the broker's cluster."""
        return self.handles[CONTROLLER]

    @property
    def kafka(self) -> Handle:
        """The broker."""
        return self.handles[KAFKA]

    @property
    def postgres(self) -> Handle:
        """The database server."""
        return self.handles[POSTGRES]

    @property
    def registry(self) -> Handle:
        """The schema registry."""
        return self.handles[REGISTRY]

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each server."""
        return {name: handle.pid for name, handle in self.handles.items()}


@contextmanager
def start(home: Path, *, only: Iterable[str] = ALL, parts: Sequence[Part] = ()) -> Iterator[Servers]:
    """Start the servers of `only` in the folder, on free ports; stop them at the end. The data stays.

    The broker brings its controller with it, the registry PostgreSQL. Of `parts` those start that are servers too.
    Raise `StartError` when one does not come up.
    """
    place = homes.at(home)
    homes.create(place)
    wanted = with_needed(only)
    raise_open_files()
    with homes.owned(place) as lock, Claims() as claims:
        cache = jars.ensure(sets=[name for part in parts for name in part.jar_sets])
        ports, _ = assign(place, (*PORTS, *(name for part in parts for name in part.ports)), claims)
        addresses = addresses_on(place, cache, ports, parts)
        guardian = Guardian(inherit=[lock])
        runners = make_runners(addresses, wanted, guardian)
        added = [
            Runner(program, place, guardian, needs=tuple(runners.values()))
            for part in parts
            if part.stage is Stage.SERVER
            for program in part.programs(addresses, cache, ports)
        ]
        every = {**runners, **{runner.label: runner for runner in added}}
        try:
            tick_until_settled(every.values())
            yield Servers(addresses, {name: Handle(runner) for name, runner in every.items()}, ports)
        finally:
            stop_all([child for each in added if (child := each.halt()) is not None], grace_seconds=STOP_SECONDS)
            stop_in_order(runners)
            guardian.close()


def addresses_on(home: Home, cache: jars.Jars, ports: Mapping[str, int], parts: Sequence[Part] = ()) -> Addresses:
    """Describe the servers of a stack on the ports given, with what the parts add to them.

    From here on this process talks to that stack.
    """
    forget_libpq_variables()

    def java_options(program: str) -> tuple[str, ...]:
        return tuple(option for part in parts for option in part.java_options(program, cache, ports))

    postgres = Postgres(home, ports["postgres"])
    controller = KafkaController(home, cache.class_path, ports["controller"], java_options(CONTROLLER))
    return Addresses(
        home,
        controller,
        Kafka(home, cache.class_path, ports["kafka"], controller, java_options(KAFKA)),
        postgres,
        Registry(home, cache.registry_folder, postgres, ports["registry"], ports["registry_management"]),
    )


def addresses_of(home: Home) -> Addresses:
    """Return where the servers of an existing stack are; raise `NoStackError` when none was ever started there."""
    ports = recall(home)
    if not set(PORTS) <= set(ports):
        raise NoStackError(home)
    return addresses_on(home, jars.cached(), ports)


def make_runners(addresses: Addresses, wanted: Iterable[str], guardian: Guardian) -> dict[str, Runner]:
    """Return a runner per server, in the order in which they can start."""
    programs: dict[str, Program] = {
        CONTROLLER: addresses.controller,
        KAFKA: addresses.kafka,
        POSTGRES: addresses.postgres,
        REGISTRY: addresses.registry,
    }
    runners: dict[str, Runner] = {}
    for name in (name for name in ALL if name in set(wanted)):
        needs = [runners[NEEDS[name]]] if name in NEEDS else []
        runners[name] = Runner(programs[name], addresses.home, guardian, needs=needs)
    return runners


def with_needed(names: Iterable[str]) -> frozenset[str]:
    """Add what the named servers cannot do without."""
    wanted = frozenset(names)
    if unknown := wanted - set(ALL):
        raise ValueError(f"no such server: {', '.join(sorted(unknown))}")
    return wanted | {NEEDS[name] for name in wanted if name in NEEDS}


def stop_in_order(runners: Mapping[str, Runner], *, hurry: Callable[[], bool] = never) -> None:
    """Stop the broker and the registry together, then what they need: controller and database."""
    left = {name: child for name, runner in runners.items() if (child := runner.halt()) is not None}
    needing = [child for name, child in left.items() if name in NEEDS]
    needed = [child for name, child in left.items() if name not in NEEDS]
    stop_all(needing, grace_seconds=STOP_SECONDS, hurry=hurry)
    stop_all(needed, grace_seconds=NEEDED_STOP_SECONDS, hurry=hurry)
