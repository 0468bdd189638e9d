"""Faults of the machine: all of it asleep and awake again, and clocks that are set back."""

import random
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil

from chaos.faults.harness import PASSED_UNDER_LOAD, Act, Evidence, Fault, Harness, Hurts, left_behind
from chaos.run.findings import VoidRunError
from chaos.run.plan import Action, Arm
from chaos.run.servers import Server

BACK_SECONDS = 3600.0
AT_WORK_SECONDS = 2.0
"""So long a process goes on by the wrong clock."""


def freeze_all(harness: Harness, chance: random.Random) -> Evidence:
    """Stop every process of servers and services, as a closed laptop does; let them go on, in any order."""
    hit, seconds = harness.pipeline.servers, harness.pace.frozen_seconds
    servers: list[Server] = [hit.controller, hit.kafka, harness.second.server, hit.postgres, hit.registry]
    with harness.pipeline.unkept():
        children = [child for slot in harness.pipeline.slots() if (child := slot.child) is not None]
        asleep: list[Callable[[], None]] = []
        try:
            for child in children:
                asleep.append(partial(child.send, signal.SIGCONT))
                child.send(signal.SIGSTOP)
            for server in servers:
                asleep.append(server.thaw)
                server.freeze()
            pids = [child.pid for child in children] + [server.pid for server in servers]
            time.sleep(seconds)
            stopped = [pid for pid in pids if psutil.Process(pid).status() == psutil.STATUS_STOPPED]
        finally:
            chance.shuffle(asleep)
            for wake in asleep:
                wake()
    if len(stopped) < len(pids):
        raise VoidRunError(f"{len(pids) - len(stopped)} of {len(pids)} processes were awake")
    harness.wait_ready()
    return {"processes": len(stopped), "seconds": seconds}


def _clock_back(service: str, name: str) -> Act:
    def act(harness: Harness, chance: random.Random) -> Evidence:
        fired = harness.fire(
            Arm(point=str(chance.choice(PASSED_UNDER_LOAD[service])), action=Action.JUMP, seconds=-BACK_SECONDS)
        )
        time.sleep(AT_WORK_SECONDS)
        for slot in harness.unspared(name):
            stopped = harness.stop_in_order(slot)
            harness.wait_ready(slot)
        return {**left_behind(fired), "seconds": -BACK_SECONDS, "stopped": (round(stopped.seconds, 2), stopped.code)}

    return act


FAULTS = (
    Fault("everything frozen", Hurts.MACHINE, freeze_all, alone=True, once=True),
    Fault("worker's clock set back", Hurts.WORKERS, _clock_back("inventory", "inventory")),
    Fault("API's clock set back", Hurts.API, _clock_back("order", "order-api")),
    Fault("notification's clock set back", Hurts.NOTIFICATION, _clock_back("notification", "notification")),
    Fault("metrics' clock set back", Hurts.METRICS, _clock_back("metrics", "metrics")),
)
