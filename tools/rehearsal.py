"""Rehearse compose.yaml from nothing to nothing: `make compose-test`.

Build, start, place the demo's orders, scale, kill a worker while a thousand orders come in, prove the books from inside
the network, take everything down. It is a project of its own with a port of its own, so a stack that runs beside it is
not touched; what it starts is gone at the end, however that comes.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos.load.http import HttpLoad
from chaos.load.mix import Mix, Tally
from deploy.cli.demo_orders import ORDERS, Api, complaints, decided
from deploy.images.make_secrets import HOLDERS
from deploy.local.stack.ports import Claims, defaults
from deploy.local.supervise.loopback import LOOPBACK
from onceloop.errors import ExitCode, ReportedError
from tools.standin.__main__ import LABEL

PROJECT = "order-pipeline-rehearsal"
IMAGE = "order-pipeline:local"
WORKERS = 4
KILLED = 137
"""The exit code that Docker gives for SIGKILL."""
ORDERS_POSTED = 1000
KILLED_AFTER = 250
OUTCOME_SECONDS_MAX = 90.0
READY_SECONDS_MAX = 300
POLL_SECONDS = 0.1
SHELVES = (
    "INSERT INTO inventory.stock SELECT 'sku-' || lpad(n::text, 3, '0'), 1500, 1500 FROM generate_series(0, 39) AS n"
)
"""For the load: enough of most, too little of the favourites."""


class RehearsalError(ReportedError):
    """Something did not come out as it must."""

    exit_code = ExitCode.VIOLATION


def main() -> None:
    """Rehearse; raise RehearsalError at the first thing that is wrong."""
    with project() as (docker, api_port):
        build(docker)
        start(docker)
        inspect(docker)
        place_demo_orders(Api(api_port))
        scale(docker)
        kill_in_mid_work(docker, api_port)
        prove(docker, orders=len(ORDERS) + ORDERS_POSTED)
    say("nothing is left of it")


class Docker:
    """Docker's command line, for one Compose project."""

    def __init__(self, api_port: int) -> None:
        self._environment = {**os.environ, "COMPOSE_PROJECT_NAME": PROJECT, "API_PORT": str(api_port)}

    def compose(self, *arguments: str, shown: bool = False) -> str:
        """Run `docker compose`; return what it wrote to its output."""
        return self.run("compose", "--progress", "quiet", *arguments, shown=shown)

    def run(self, *arguments: str, shown: bool = False) -> str:
        """Run `docker`. Raises RehearsalError with what it said if it fails."""
        done = subprocess.run(
            ["docker", *arguments],  # noqa: S607 - the one on PATH
            env=self._environment,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            said = "" if shown else f"\n{done.stdout}{done.stderr}"
            raise RehearsalError(f"docker {' '.join(arguments)} ended with {done.returncode}{said}")
        return done.stdout or ""

    def up(self, *arguments: str) -> None:
        """Start what does not run, and return once all are ready."""
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(READY_SECONDS_MAX), *arguments)

    def containers(self, service: str = "") -> list[str]:
        """Return the ids of the running containers, of one service or of all."""
        return self.compose("ps", "--quiet", *([service] if service else [])).split()

    def facts(self, container: str) -> Any:
        """Return what `docker inspect` knows of a container or an image."""
        return json.loads(self.run("inspect", container))[0]


@contextmanager
def project() -> Iterator[tuple[Docker, int]]:
    """Yield a project that did not exist before, and does not exist afterwards."""
    with Claims() as claims:
        port = next(port for port in range(defaults()["api"] + 1000, 65_000) if claims.claim(port))
        docker = Docker(port)
        remove(docker)
        try:
            yield docker, port
        except ReportedError:
            say("its containers' last words:")
            docker.compose("logs", "--tail", "8", shown=True)
            raise
        finally:
            remove(docker)
        left = docker.run("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
        expect(not left, f"containers are left: {left}")
        left = docker.run("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
        expect(not left, f"volumes are left: {left}")


def remove(docker: Docker) -> None:
    """Take it down with its data, whatever profile it came from."""
    docker.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "15")


def build(docker: Docker) -> None:
    """Build our image, and say how large it is and what it stands on."""
    began = time.monotonic()
    docker.compose("build")
    facts = docker.facts(IMAGE)
    kind = " on a stand-in base" if LABEL in (facts["Config"]["Labels"] or {}) else ""
    say(f"{IMAGE}{kind} built in {time.monotonic() - began:.0f} s")
    for image in sorted({IMAGE, *docker.compose("config", "--images").split()}):
        say(f"    {megabytes(int(docker.facts(image)['Size']))} {image}")


def start(docker: Docker) -> None:
    """Start everything, and say how long that takes and how much memory it needs."""
    began = time.monotonic()
    docker.up()
    say(f"ready after {time.monotonic() - began:.1f} s")
    print_memory(docker)


def print_memory(docker: Docker) -> None:
    """Say how much memory each container holds and how much all of them; expect that none had to be ended for it."""
    lines = docker.run("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *docker.containers()).splitlines()
    for line in sorted(lines):
        say(f"    {line.removeprefix(f'{PROJECT}-')}")
    for container in docker.containers():
        facts = docker.facts(container)
        expect(not facts["State"]["OOMKilled"], f"{facts['Name']} ran out of memory")
        expect(facts["RestartCount"] == 0, f"{facts['Name']} ended {facts['RestartCount']} times")
    say(f"    {sum(mebibytes(line.split()[1]) for line in lines):.0f} MiB in all")


def inspect(docker: Docker) -> None:
    """Look at what runs as an attacker would: who it is, what it may write, what the layers show."""
    for container in docker.containers():
        facts = docker.facts(container)
        name, config, host = facts["Name"], facts["Config"], facts["HostConfig"]
        expect(config["User"] not in {"", "0", "root", "0:0"}, f"{name} runs as root")
        expect(host["CapDrop"] == ["ALL"], f"{name} has capabilities")
        expect("no-new-privileges:true" in host["SecurityOpt"], f"{name} may gain privileges")
        if config["Image"] == IMAGE:
            expect(host["ReadonlyRootfs"], f"{name} can write into itself")
    shown = docker.run("history", "--no-trunc", IMAGE) + json.dumps([docker.facts(IMAGE)])
    shown += "".join(json.dumps(docker.facts(each)) for each in docker.containers())
    read_all = "for each in /run/secrets/*; do cat $each; echo; done"
    passwords = docker.compose("run", "--rm", "-T", "--no-deps", "provision", "sh", "-c", read_all).split()
    expect(len(passwords) == len(HOLDERS["provision"]), "each password can be looked for")
    expect(not any(password in shown for password in passwords), "a password stands in a layer or a setting")
    say(f"no process is root, nothing of ours is writable, none of {len(passwords)} passwords is shown")


def place_demo_orders(api: Api) -> None:
    """Place the demo's orders, and wait until each came out as it must."""
    placed = [(wanted, api.place(wanted, key=f"rehearsal-{number}")) for number, wanted in enumerate(ORDERS)]

    def all_are_notified() -> bool:
        orders = [api.order(order_id) for _, order_id in placed]
        return all(decided(order) and order.get("notified") for order in orders)

    wait_for(all_are_notified, "the demo's orders have their outcome and their customers know")
    wrong = complaints([(wanted, order_id, api.order(order_id)) for wanted, order_id in placed])
    expect(not wrong, "\n".join(wrong))
    say(f"{len(placed)} demo orders came out as they must")


def scale(docker: Docker) -> None:
    """Have more workers; each has a slot of its own."""
    docker.up("--scale", f"inventory={WORKERS}")
    taken = slots(docker)
    expect(sorted(taken.values()) == list(range(WORKERS)), f"slots are {taken}")
    say(f"{WORKERS} inventory workers in slots {', '.join(map(str, sorted(taken.values())))}")


def kill_in_mid_work(docker: Docker, api_port: int) -> None:
    """Kill an inventory container while orders come in, bring it back, and see it in the slot that became free."""
    docker.compose("exec", "-T", "postgres", "psql", "--username", "postgres", "--quiet", "-c", SHELVES, "pipeline")
    before = slots(docker)
    victim = next(iter(before))
    tally = posting(api_port, at=KILLED_AFTER, then=lambda: docker.run("kill", "--signal", "KILL", victim))
    expect(docker.facts(victim)["State"]["ExitCode"] == KILLED, "the worker was killed")
    say(
        f"{tally.orders} orders posted in {tally.seconds:.1f} s; slot {before[victim]} got SIGKILL after {KILLED_AFTER}"
    )
    # Docker takes its own kill for our wish and does not restart: the others have taken over meanwhile.
    docker.up("--scale", f"inventory={WORKERS}")
    after = slots(docker)
    expect(sorted(after.values()) == list(range(WORKERS)), f"slots are {after}")
    expect(victim in after, "its container is back")
    say(f"its container is back in slot {after[victim]}")
    print_memory(docker)


def posting(api_port: int, *, at: int, then: Callable[[], object]) -> Tally:
    """Post the orders; once `at` are through, do something to the pipeline while the others come in."""
    with tempfile.TemporaryDirectory() as folder:
        load = HttpLoad(f"http://{LOOPBACK}:{api_port}", Path(folder) / "history.jsonl")
        found: list[Tally] = []
        mix = Mix(seed=6, http_orders=ORDERS_POSTED)
        thread = threading.Thread(target=lambda: found.append(load.run(mix)), name="load")
        thread.start()
        try:
            wait_for(lambda: load.done >= at or not thread.is_alive(), f"{at} orders are through")
            then()
            expect(thread.is_alive(), "orders were still coming in")
        except BaseException:
            load.stop.set()
            raise
        finally:
            thread.join()
    expect(len(found) == 1, "the load ended")
    return found[0]


def prove(docker: Docker, *, orders: int) -> None:
    """Have the books judged from inside the network, on so many orders at least."""
    found = json.loads(docker.compose("run", "--rm", "-T", "pipeline", "verify", "--wait", "120", "--json"))
    counts, rules = found["counts"], [rule for rule in found["rules"] if rule["judged"]]
    expect(counts["orders"] >= orders, f"the books are those of {counts['orders']} orders instead of {orders}")
    expect(not counts["dead_letters"], f"{counts['dead_letters']} dead letters")
    harms = ", ".join(f"{number} {harm}" for harm, number in found["harms"].items())
    say(f"{counts['orders']} orders, {len(rules)} rules: {harms}; {counts['replays']} replays")


def slots(docker: Docker) -> dict[str, int]:
    """Return container -> slot of the running inventory workers."""
    found = {}
    for container in docker.containers("inventory"):
        environment = docker.run("exec", container, "cat", "/proc/1/environ").split("\0")
        [slot] = [each.partition("=")[2] for each in environment if each.startswith("PIPELINE_SLOT=")]
        found[container] = int(slot)
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds. Raises RehearsalError if it does not in time."""
    deadline = time.monotonic() + OUTCOME_SECONDS_MAX
    while not condition():
        expect(time.monotonic() < deadline, f"did not come true within {OUTCOME_SECONDS_MAX:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def expect(true: bool, otherwise: str) -> None:  # noqa: FBT001 - as an assert takes it
    """Raise RehearsalError unless it is so."""
    if not true:
        raise RehearsalError(otherwise)


def mebibytes(printed: str) -> float:
    """Return what `docker stats` writes as 12.3MiB or 1.2GiB."""
    units = {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}
    return float(printed[:-3]) * units[printed[-3:]]


def megabytes(size_bytes: int) -> str:
    """Return a size for eyes."""
    return f"{size_bytes / 1e6:.0f} MB"


def say(line: str) -> None:
    """Print it at once."""
    print(f"compose: {line}", flush=True)


def run(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    if arguments:
        sys.stderr.write("usage: python -m tools.rehearsal\n")
        return ExitCode.USAGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is taken down
    try:
        main()
    except ReportedError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
