"""One interleaving: workers on a cluster and a database, faults while it is rough, then calm until all is done.

What may happen between two steps is in two lists. *Meanwhile*: markers, late requests, further input, restarts, thaws,
session and transaction time-outs, the database's return. *Faults*, a bounded number: SIGKILL, SIGSTOP, SIGTERM, the
database away, a member expelled, another worker.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from chaos.model.client_consumer import ModelConsumer
from chaos.model.client_log import ModelLog
from chaos.model.client_producer import ModelProducer
from chaos.model.cluster import Cluster
from chaos.model.scenario import Fault, Scenario, codec, draw
from chaos.model.scheduler import Fiber, Killed, Scheduler
from chaos.model.stage import ModelDecisions, ModelGuardTables, runtime
from chaos.model.tables import ModelConnection, Tables
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED, dead_letter_topic
from inventory_service.core import allocation
from inventory_service.io.guarding import guards
from inventory_service.io.step import InventoryStep
from onceloop.errors import FatalError
from onceloop.health import Health
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.transactional_producer import TransactionalProducer
from onceloop.lifecycle import Stop
from onceloop.postgres.guards.starts import STARTS_TO_QUARANTINE
from onceloop.transactional import run

OUTPUTS = (INVENTORY_RESERVED.name, INVENTORY_FAILED.name)
DEAD_LETTERS = dead_letter_topic(ORDERS_CREATED, INVENTORY).name
SLICE = 25
HEALING_SLICES = 160
"""Steps within which everything accepted must be through once it is calm: 4,000, some thirty times what is needed."""
CALM_RESTLESS = 0.2
TRIES = 3
EARLY_THAW = 0.2
"""How likely a frozen process wakes before anybody missed it."""
PRODUCING = {"socket.timeout.ms": 3000, "transaction.timeout.ms": 10000}


class ModelStop(Stop):
    """The product's stop, on the model's clock."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def wait(self, seconds: float) -> bool:
        """Let others go on meanwhile."""
        self._scheduler.wait("waiting", seconds)
        return self()


@dataclass(slots=True)
class Process:
    """One life of a worker in a slot."""

    slot: int
    stop: ModelStop
    connection: ModelConnection
    fiber: Fiber
    consumer: ModelConsumer | None = None
    expelled: bool = False

    @property
    def idle(self) -> bool:
        """Return True if it polls and finds nothing."""
        return not self.fiber.ended and self.consumer is not None and self.consumer.idle > 1


class World:
    """All of one interleaving. `tally` counts what happened, `died` holds what killed a worker unforeseen."""

    def __init__(self, seed: int, narrow: Callable[[Scenario], Scenario]) -> None:
        self.scheduler = Scheduler(seed, self._meanwhile, self._pass_time)
        self.scenario = narrow(draw(self.scheduler.random))
        self.cluster = Cluster(self.scheduler, self.scenario.partitions, [*OUTPUTS, DEAD_LETTERS])
        self.tables = Tables(self.scenario.on_hand)
        self.tally: Counter[str] = Counter()
        self.died = ""
        self.runtime = runtime(
            self.scheduler, self.tally, open_consumer=self.open_consumer, open_producer=self.open_producer
        )
        self._arriving = list(self.scenario.inputs)
        self._faults = 0
        self._processes: list[Process] = []
        self._by_fiber: dict[Fiber, Process] = {}
        self._calm = False
        self._closing = False

    def play(self) -> bool:
        """Take the interleaving from start to end; return True if everything was worked off in time."""
        scheduler, scenario = self.scheduler, self.scenario
        for _ in range(scheduler.random.randint(1, len(self._arriving))):
            self._arrive()
        for slot in range(scenario.slots):
            self._start(slot)
        self._faults = scenario.faults
        scheduler.restless = scenario.restless
        network = self.cluster.network
        network.rough, network.kinds, network.promptness = (
            scenario.rough_network,
            scenario.weathers,
            scenario.promptness,
        )
        while scheduler.steps < scenario.steps and not self._done():
            self._go_on()
        self._heal()
        done = self._within(HEALING_SLICES, self._done)
        self._closing = True
        for process in self._processes:
            process.stop.set()
        stopped = self._within(HEALING_SLICES, lambda: all(process.fiber.ended for process in self._processes))
        scheduler.end()
        self._count()
        return done and stopped

    def open_producer(self, options: Mapping[str, Any], *, logger: Any) -> ModelProducer:
        """Stand for the class `confluent_kafka.Producer`."""
        return ModelProducer(self.cluster, options, logger=logger)

    def open_consumer(self, options: Mapping[str, Any], *, logger: Any) -> ModelConsumer:  # noqa: ARG002 - the signature of the class
        """Stand for the class `confluent_kafka.Consumer`."""
        process = self._by_fiber[self.scheduler.current]
        process.consumer = ModelConsumer(self.cluster, options)
        return process.consumer

    def _start(self, slot: int) -> None:
        lives = sum(process.slot == slot for process in self._processes)
        connection = ModelConnection(self.tables, self.runtime, self.scheduler, self.cluster.network.late)
        connection.rough = 0.0 if self._calm else self.scenario.rough_database
        stop = ModelStop(self.scheduler)
        fiber = self.scheduler.start(f"slot {slot}, life {lives + 1}", partial(self._live, slot, stop, connection))
        process = Process(slot, stop, connection, fiber)
        self._processes.append(process)
        self._by_fiber[fiber] = process

    def _live(self, slot: int, stop: ModelStop, connection: ModelConnection) -> None:
        """Be a process: what `inventory_service.__main__` wires, on the fakes."""
        product: Any = connection  # stands for the product's own
        decisions, log = ModelDecisions(), ModelLog(self.cluster, DEAD_LETTERS)
        tables: Any = ModelGuardTables()
        guarded = guards(product, tables, codec(), log, decisions=decisions)  # type: ignore[arg-type]  # the same
        step = InventoryStep(
            connection=product,
            codec=codec(),
            namespace="",
            batch_records_max=self.scenario.batch_records_max,
            guards=guarded,
            rule=allocation,
            decisions=decisions,
        )
        try:
            with guarded.starts.counting_orderly_ends():
                run(
                    step,
                    consumer=GroupConsumer(
                        {"group.id": INVENTORY.name, "group.instance.id": str(slot)},
                        [ORDERS_CREATED.name],
                        service=INVENTORY.name,
                        runtime=self.runtime,
                    ),
                    build_producer=partial(
                        TransactionalProducer,
                        {**PRODUCING, "transactional.id": f"inventory-{slot}"},
                        service=INVENTORY.name,
                        runtime=self.runtime,
                    ),
                    stop=stop,
                    health=Health(),
                    service=INVENTORY.name,
                    runtime=self.runtime,
                )
        except Killed:
            self.scheduler.note(self.scheduler.current.name, "is dead")
        except FatalError as fatal:
            self.tally["exits"] += 1
            self.scheduler.note(self.scheduler.current.name, f"exits: {fatal.message}")
        except Exception:  # noqa: BLE001 - the outermost frame; whatever comes here is a finding
            self.died = self.died or traceback.format_exc(limit=-4)

    def _go_on(self) -> None:
        if not self.scheduler.run(SLICE):
            self._pass_time()
            self.scheduler.steps += 1

    def _within(self, slices: int, condition: Callable[[], bool]) -> bool:
        for _ in range(slices):
            if condition():
                return True
            self._go_on()
            self._call_a_person()
        return condition()

    def _done(self) -> bool:
        return (
            not self._arriving
            and self.cluster.worked_off()
            and all(process.fiber.ended or process.idle for process in self._processes)
        )

    def _heal(self) -> None:
        """End all faults; what they left behind stays: late requests, open transactions, zombies that wake now."""
        self._calm = True
        self._faults = 0
        self.scheduler.restless = CALM_RESTLESS
        self.cluster.network.rough, self.cluster.network.promptness = 0.0, 1.0
        self.tables.down = False
        for process in self._processes:
            process.connection.rough = 0.0
        while self._thaw():
            continue

    def _call_a_person(self) -> None:
        """Do what the alarm of a quarantine asks for: forget the starts, start again."""
        if any(starts >= STARTS_TO_QUARANTINE for _, starts in self.tables.starts.values()):
            self.tally["quarantines"] += 1
            self.tables.starts.clear()
            for process in self._processes:
                process.stop.set()

    def _meanwhile(self) -> None:
        lot = self.scheduler.random.random()
        if lot < 0.55:  # noqa: PLR2004 - shares of the lot
            self.scheduler.give_way()
        elif lot < 0.85 or not self._faults:  # noqa: PLR2004
            self._pass_time()
        else:
            self._strike()

    def _pass_time(self) -> None:
        """Let one thing happen that only needs time, if chance finds one that is due."""
        due = (
            self.cluster.settle,
            self.cluster.network.deliver_late,
            self._arrive,
            self._restart,
            self._thaw,
            self._end_session,
            self._time_out,
            self._database_returns,
        )
        for _ in range(TRIES):
            if self.scheduler.random.choice(due)():
                return

    def _strike(self) -> None:
        """Let one fault happen."""
        self._faults -= 1
        match self.scheduler.random.choice(self.scenario.fault_kinds):
            case Fault.KILL:
                self._note_fault("crashes", "SIGKILL")
                self.scheduler.kill(self.scheduler.current)
            case Fault.FREEZE:
                self._note_fault("freezes", "SIGSTOP")
                self.scheduler.current.frozen = True
            case Fault.TERMINATE:
                self._note_fault("orderly stops", "SIGTERM")
                self._by_fiber[self.scheduler.current].stop.set()
            case Fault.DATABASE_AWAY:
                self._note_fault("database outages", "database away")
                self.tables.down = True
            case Fault.EXPEL:
                self._end_session_of(self.scheduler.random.choice(self._processes))

    def _note_fault(self, counted: str, what: str) -> None:
        self.tally[counted] += 1
        self.scheduler.note("fault", what)

    def _database_returns(self) -> bool:
        was_down, self.tables.down = self.tables.down, False
        return was_down

    def _arrive(self) -> bool:
        if not self._arriving:
            return False
        arrived = self._arriving.pop(0)
        self.cluster.entries(arrived.partition).append(arrived.entry)
        return True

    def _newest(self) -> list[Process]:
        return list({process.slot: process for process in self._processes}.values())

    def _restart(self) -> bool:
        """Start a process in a slot whose last one ended, or is taken for dead because it does not move."""
        for process in [] if self._closing else self._newest():
            if process.fiber.ended or (process.fiber.frozen and self.scenario.frozen_are_replaced):
                self.tally["restarts"] += 1
                self.scheduler.note("supervisor", f"starts slot {process.slot} again")
                self._start(process.slot)
                return True
        return False

    def _thaw(self) -> bool:
        """Continue a frozen process; it is a zombie if another process took over meanwhile."""
        for process in self._processes:
            if process.fiber.frozen:
                zombie = process.expelled or process not in self._newest()
                if not (zombie or self._calm or self.scheduler.random.random() < EARLY_THAW):
                    continue
                self.tally["zombies"] += zombie
                self.scheduler.note("fault", f"SIGCONT {process.fiber.name}{', a zombie' if zombie else ''}")
                process.fiber.frozen = False
                return True
        return False

    def _end_session(self) -> bool:
        """Let the group lose patience with a member that does not move."""
        for process in self._newest():
            if process.fiber.ended or process.fiber.frozen:
                return self._end_session_of(process)
        return False

    def _end_session_of(self, process: Process) -> bool:
        expelled = self.cluster.group.expel(str(process.slot))
        if expelled:
            self.tally["sessions ended"] += 1
            process.expelled = True
            self.scheduler.note("group", f"ends the session of slot {process.slot}")
        return expelled

    def _time_out(self) -> bool:
        """Let a transaction time out if no process is likely to go on with it."""
        newest = self._newest()
        if any(one.fiber.frozen or one.fiber.ended for one in newest) or all(one.idle for one in newest):
            timed_out = self.cluster.coordinator.time_out()
            if timed_out:
                self.scheduler.note("broker", timed_out)
            return bool(timed_out)
        return False

    def _count(self) -> None:
        self.tally["steps"] = self.scheduler.steps
        self.tally["takeovers"] += self.cluster.group.takeovers
        self.tally["late requests"] += self.cluster.network.late_arrivals
        self.tally["bad weather"] += self.cluster.network.storms
        self.tally["transaction time-outs"] += self.cluster.coordinator.timed_out
        self.tally["suppressed duplicates"] += sum(log.suppressed for log in self.cluster.broker.logs.values())
