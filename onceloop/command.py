"""The command line of an app: `python -m my_app [run|init] [options]`."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn, Protocol

from onceloop.config import KafkaConfig
from onceloop.errors import Busy, ExitCode, ReportedError
from onceloop.lines import LinesObserver
from onceloop.telemetry import SILENT, Observer


class Program(Protocol):
    """An app, as far as its command line goes; see `Once`."""

    kafka: KafkaConfig
    postgres: str
    group: str
    inputs: list[str]
    slot: int
    observer: Observer
    health_port: int | None

    def run(self) -> None:
        """Process until a signal."""

    def init(self, *, partitions: int | None) -> list[str]:
        """Make what is missing; return what was made."""


def main(app: Program, argv: Sequence[str] | None = None) -> NoReturn:
    """Do what the arguments say with the app, and end the process with the exit code that fits."""
    parser = argparse.ArgumentParser(description=f"The group {app.group}: {', '.join(app.inputs)} once each.")
    parser.add_argument("command", nargs="?", choices=("run", "init"), default="run", help="what to do (run)")
    carry_out(app, parsed(parser, argv))


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what `carry_out` reads, besides the parser's own arguments; end the process for what does not go with it.

    The parser has an argument `command`.
    """
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="where Kafka is, instead of what the app says")
    parser.add_argument("--dsn", metavar="URL", help="where PostgreSQL is, instead of what the app says")
    parser.add_argument("--slot", type=int, help="this process's place in the group, from 0")
    parser.add_argument("--health-port", type=int, metavar="PORT", help="serve /livez, /readyz and /metrics there")
    parser.add_argument(
        "--topics", type=int, nargs="?", const=1, metavar="PARTITIONS", help="init: create missing topics (1 partition)"
    )
    asked = parser.parse_args(argv)
    if asked.topics is not None and asked.command != "init":
        parser.error(f"--topics goes with init: {asked.command} creates nothing")
    return asked


def carry_out(app: Program, asked: argparse.Namespace) -> NoReturn:
    """Run or prepare the app, and end the process."""
    if asked.bootstrap:
        app.kafka = replace(app.kafka, bootstrap=asked.bootstrap)
    if asked.dsn:
        app.postgres = asked.dsn
    if asked.slot is not None:
        app.slot = asked.slot
    if asked.health_port is not None:
        app.health_port = asked.health_port
    if app.observer is SILENT:
        app.observer = LinesObserver()
    code = _ended(app, asked)
    sys.stdout.flush()
    sys.stderr.flush()
    # All that must last is durable by now. librdkafka's destructors have been seen to wait for ever for a dead broker.
    os._exit(code)


def _ended(app: Program, asked: argparse.Namespace) -> int:
    try:
        if asked.command == "init":
            made = app.init(partitions=asked.topics)
            sys.stdout.write("".join(f"made: {each}\n" for each in made) or "nothing to do\n")
        else:
            app.run()
    except ReportedError as error:
        code = int(error.exit_code)
        app.observer.log("error", "process.ended", reason=error.message, exit_code=code, cure=error.cure)
        return code
    except Busy as busy:
        app.observer.log("error", "process.ended", reason=str(busy), exit_code=int(ExitCode.UNAVAILABLE))
        return ExitCode.UNAVAILABLE
    except Exception as error:  # noqa: BLE001 - the outermost frame
        app.observer.log("error", "process.crashed", exc_info=error)
        return ExitCode.SOFTWARE
    return ExitCode.OK
