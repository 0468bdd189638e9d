"""The command line of an app, and of the package: `python -m my_app [run|init]`, `onceloop run|init MODULE:app`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from onceloop.errors import Busy, ExitCode, ReportedError, UsageError
from onceloop.lines import LinesObserver
from onceloop.telemetry import SILENT, Silent

if TYPE_CHECKING:
    from onceloop.app import Once


def main(app: "Once", argv: Sequence[str] | None = None) -> NoReturn:
    """Do what the arguments say with the app, and end the process with the exit code that fits."""
    parser = argparse.ArgumentParser(description=f"The group {app.group}: {', '.join(app.inputs)} once each.")
    parser.add_argument("command", nargs="?", choices=("run", "init"), default="run", help="what to do (run)")
    _add_options(parser)
    _do(app, parser.parse_args(argv))


def package_main(argv: Sequence[str] | None = None) -> NoReturn:
    """Be the console script `onceloop`."""
    parser = argparse.ArgumentParser(prog="onceloop", description="Run an app, or make what it needs first.")
    parser.add_argument("command", choices=("run", "init"), help="what to do")
    parser.add_argument("app", metavar="MODULE:APP", help="where the app is, such as shop.ledger:app")
    _add_options(parser)
    asked = parser.parse_args(argv)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does
    try:
        app = find(asked.app)
    except ReportedError as error:
        parser.error(f"{error.message}; {error.cure}")
    _do(app, asked)


def find(path: str) -> "Once":
    """Return the app at MODULE:NAME. Raises UsageError if there is none."""
    from onceloop.app import Once

    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name or "app", None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise UsageError(f"there is no module {module}", cure="run it where the module is") from error
    if not isinstance(found, Once):
        raise UsageError(f"{path} is no Once", cure="name it as MODULE:APP")
    return found


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="where Kafka is, instead of what the app says")
    parser.add_argument("--dsn", metavar="URL", help="where PostgreSQL is, instead of what the app says")
    parser.add_argument("--slot", type=int, help="this process's place in the group, from 0")
    parser.add_argument("--health-port", type=int, metavar="PORT", help="serve /livez, /readyz and /metrics there")
    parser.add_argument(
        "--topics", type=int, nargs="?", const=1, metavar="PARTITIONS", help="init: create missing topics (1 partition)"
    )


def _do(app: "Once", asked: argparse.Namespace) -> NoReturn:
    if asked.bootstrap:
        app.kafka = replace(app.kafka, bootstrap=asked.bootstrap)
    if asked.dsn:
        app.postgres = asked.dsn
    if asked.slot is not None:
        app.slot = asked.slot
    if asked.health_port is not None:
        app.health_port = asked.health_port
    if type(app.observer) is Silent or app.observer is SILENT:
        app.observer = LinesObserver()
    code = _ended(app, asked)
    sys.stdout.flush()
    sys.stderr.flush()
    # All that must last is durable by now. librdkafka's destructors have been seen to wait for ever for a dead broker.
    os._exit(code)


def _ended(app: "Once", asked: argparse.Namespace) -> int:
    try:
        if asked.command == "init":
            made = app.init(partitions=asked.topics)
            sys.stdout.write("".join(f"made: {each}\n" for each in made) or "all there\n")
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
