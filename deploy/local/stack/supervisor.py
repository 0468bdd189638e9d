"""Run the whole stack: bring it up in order, restart what falls, take it down within seconds.

One thread ticks every process's runner. Whatever ends this one - a Ctrl-C at any moment, a start that fails half-way,
an error of ours, a SIGKILL - no process stays: the first three come through `_take_down`, the last is the guardian's.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import psutil

from deploy.local import home as homes
from deploy.local.fetch import jars
from deploy.local.home import Home
from deploy.local.servers.addresses import Addresses
from deploy.local.servers.part import Part, Stage
from deploy.local.stack import data_format, readings, servers, services, state
from deploy.local.stack.ports import Claims, Moved, assign
from deploy.local.stack.readings import Readings
from deploy.local.stack.services import PROVISION, Provision, ServiceProgram
from deploy.local.stack.state import Phase, ProcessState, StackState
from deploy.local.supervise import logs
from deploy.local.supervise.diagnosis import PortTakenError
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Program
from deploy.local.supervise.process import stop_all
from deploy.local.supervise.runner import TICK_SECONDS, Runner, State, raise_failure
from onceloop.errors import ReportedError
from services.row import Service

SERVICE_ATTEMPTS_MAX = 5
"""Starts in a row without getting ready, before `up` gives up. Once it was up, a service is restarted for ever."""
PROVISION_ATTEMPTS_MAX = 2
"""It may be repeated, and a cluster that has only just started may keep it waiting for too long."""
PORT_ATTEMPTS_MAX = 5
"""Starts on other ports, when another program takes one between the look at it and the server that is to have it."""
STOP_SECONDS = 5.0
_PUBLISH_SECONDS = 0.5
_HOUSEKEEPING_SECONDS = 10.0


class View(Protocol):
    """Who watches. `shows_figures`: whether it shows readings."""

    shows_figures: bool

    def open_progress(self, size_bytes: int) -> AbstractContextManager[jars.Advance]:
        """Show a download of so many bytes."""

    def moved(self, ports: Sequence[Moved]) -> None:
        """Name the ports that are not the defaults."""

    def port_lost(self, error: PortTakenError) -> None:
        """Say that a start failed by a port that was taken meanwhile, and that another one follows."""

    def show(self, stack: StackState, readings: Readings, /) -> None:
        """Show the stack as it stands now; called twice a second and at every change of phase."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run in a home."""

    home: Home
    services: tuple[Service, ...]
    provision: tuple[str, ...] = PROVISION
    servers: tuple[str, ...] = servers.ALL
    """Fewer, for services that need none of the others."""
    parts: tuple[Part, ...] = ()
    """What was asked for beyond the rest."""


class Wish:
    """What the user asked for by signals: once to stop, twice to stop at once."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.times > 0

    def at_once(self) -> bool:
        """Return whether patience has run out."""
        return self.times > 1


def run(plan: Plan, view: View) -> None:
    """Bring the stack up and keep it up until SIGINT, SIGTERM or SIGHUP; then take it down.

    Raise the error of a part that does not come up, after everything was taken down again.
    """
    refuse_second(plan.home)
    homes.create(plan.home, roles=[each.role for each in plan.services if each.role is not None])
    with homes.owned(plan.home) as lock:
        data_format.bring_up_to_date(plan.home)
        cache = jars.ensure(
            open_progress=view.open_progress, sets=[name for part in plan.parts for name in part.jar_sets]
        )
        with _signals() as wish:
            for attempt in range(1, PORT_ATTEMPTS_MAX + 1):
                try:
                    _run_on_free_ports(plan, cache, lock, view, wish)
                except PortTakenError as error:
                    if wish():
                        return
                    if attempt == PORT_ATTEMPTS_MAX:
                        raise
                    view.port_lost(error)
                else:
                    return


def _run_on_free_ports(plan: Plan, cache: jars.Jars, lock: int, view: View, wish: Wish) -> None:
    """Do as `run`, on ports that are free now; raise `PortTakenError` when another program is quicker."""
    table = services.processes(plan.services)
    further = [name for part in plan.parts for name in part.ports]
    names = (
        *servers.PORTS,
        services.HTTP,
        *(services.port_name(service, slot) for service, slot in table),
        *further,
    )
    with Claims() as claims:
        ports, moved = assign(plan.home, names, claims)
        view.moved(moved)
        with _guarded(lock) as guardian:
            _Supervisor(plan, cache, ports, guardian, view).run(wish)


def refuse_second(home: Home) -> None:
    """Raise `HomeInUseError` at once when a stack is up here; one that is about to end is waited for instead."""
    stack = state.read(home)
    if stack is not None and stack.phase in {Phase.STARTING, Phase.READY} and state.find(stack.pid, stack.started_at):
        raise homes.HomeInUseError(home)


@contextmanager
def _guarded(lock: int) -> Iterator[Guardian]:
    guardian = Guardian(inherit=[lock])
    try:
        yield guardian
    finally:
        guardian.close()


@contextmanager
def _signals() -> Iterator[Wish]:
    """Count the signals that ask for the end, instead of letting them interrupt a start half-way."""
    wish = Wish()

    def note(_number: int, _frame: FrameType | None) -> None:
        wish.times += 1

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield wish
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Supervisor:
    """The runners of one stack, and what is shown of them."""

    def __init__(
        self,
        plan: Plan,
        cache: jars.Jars,
        ports: Mapping[str, int],
        guardian: Guardian,
        view: View,
    ) -> None:
        self._plan, self._ports, self._guardian, self._view = plan, ports, guardian, view
        addresses = servers.addresses_on(plan.home, cache, ports, plan.parts)
        added = {stage: _programs(plan.parts, stage, addresses, cache, ports) for stage in Stage}
        self._servers = servers.make_runners(addresses, plan.servers, guardian)
        self._added = [
            Runner(program, plan.home, guardian, needs=tuple(self._servers.values())) for program in added[Stage.SERVER]
        ]
        environment = {
            name: value for part in plan.parts for name, value in part.provision_environment(plan.home, ports).items()
        }
        self._provision = Runner(
            Provision(addresses, plan.provision, environment),
            plan.home,
            guardian,
            needs=(*self._servers.values(), *self._added),
            attempts_max=PROVISION_ATTEMPTS_MAX,
        )
        self._services = [
            Runner(program, plan.home, guardian, needs=[self._provision], attempts_max=SERVICE_ATTEMPTS_MAX)
            for program in (*services.programs(plan.services, addresses, ports), *added[Stage.SERVICE])
        ]
        self._runners = (*self._servers.values(), *self._added, self._provision, *self._services)
        self._phase = Phase.STARTING
        self._error: ReportedError | None = None
        self._published_at = self._kept_house_at = 0.0

    def run(self, wish: Wish) -> None:
        """Tick until the wish to stop; take everything down in any case."""
        shown = self._view.shows_figures
        with readings.taken_regularly(self._plan.home, self._processes, shown=shown) as latest:
            try:
                while not wish():
                    self._tick(latest())
                    time.sleep(TICK_SECONDS)
            except ReportedError as error:
                self._error = error
                raise
            finally:
                self._take_down(latest(), wish)

    def _tick(self, latest: Readings) -> None:
        for runner in self._runners:
            runner.tick()
        if self._phase is Phase.STARTING:
            raise_failure(self._runners)
            if all(runner.state is State.READY for runner in self._runners):
                self._phase = Phase.READY
                self._publish(latest)
        now = time.monotonic()
        if now - self._published_at >= _PUBLISH_SECONDS:
            self._guardian.revive(self._wards())
            self._publish(latest)
        if now - self._kept_house_at >= _HOUSEKEEPING_SECONDS:
            self._kept_house_at = now
            for runner in self._runners:
                logs.bound(runner.log)

    def _take_down(self, latest: Readings, wish: Wish) -> None:
        """Stop the services, last started first, then the servers; the sum of the graces stays below ten seconds."""
        self._phase = Phase.STOPPING
        self._publish(latest)
        left = [runner.halt() for runner in (*reversed(self._services), self._provision, *self._added)]
        stop_all([child for child in left if child is not None], grace_seconds=STOP_SECONDS, hurry=wish.at_once)
        servers.stop_in_order(self._servers, hurry=wish.at_once)
        self._phase = Phase.FAILED if self._error else Phase.STOPPED
        self._publish(Readings())

    def _publish(self, latest: Readings) -> None:
        self._published_at = time.monotonic()
        stack = self._state()
        with suppress(OSError):  # a closed terminal must not stop the stack, nor hinder its end
            self._view.show(stack, latest)
        with suppress(OSError):  # nor must a full disk
            state.write(self._plan.home, stack)  # last: who waits for a phase finds it shown

    def _state(self) -> StackState:
        error = self._error or next((runner.error for runner in self._runners if runner.error is not None), None)
        return StackState(
            phase=self._phase,
            pid=os.getpid(),
            started_at=psutil.Process().create_time(),
            ports=self._ports,
            processes=self._processes(),
            error=error.message if error else "",
            cure=error.cure if error else "",
            parts=tuple(part.name for part in self._plan.parts),
            services=tuple(str(each.folder) for each in self._plan.services if each.folder is not None),
        )

    def _wards(self) -> list[tuple[int, int]]:
        children = [runner.child for runner in self._runners if runner.child is not None]
        return [(child.pid, child.launch.stop_signal) for child in children if child.poll() is None]

    def _processes(self) -> tuple[ProcessState, ...]:
        return tuple(_process_state(runner) for runner in self._runners)


def _programs(
    parts: Sequence[Part], stage: Stage, addresses: Addresses, cache: jars.Jars, ports: Mapping[str, int]
) -> list[Program]:
    """Return what the parts add at a stage."""
    return [program for part in parts if part.stage is stage for program in part.programs(addresses, cache, ports)]


def _process_state(runner: Runner) -> ProcessState:
    program, child = runner.program, runner.child
    alive = child is not None and runner.state in {State.PREPARING, State.STARTING, State.READY}
    return ProcessState(
        label=runner.label,
        name=program.name,
        slot=program.slot,
        state=runner.state,
        pid=child.pid if child is not None and alive else 0,
        started_at=child.started_at if child is not None and alive else 0.0,
        restarts=runner.restarts,
        port=program.port if isinstance(program, ServiceProgram) else None,
        http_port=program.http_port if isinstance(program, ServiceProgram) else None,
        waits=runner.waits,
    )
