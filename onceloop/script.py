"""The console script `onceloop`: run an app of some module, or make what it needs first."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from onceloop import command
from onceloop.app import Once
from onceloop.errors import ReportedError, UsageError


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Be the console script `onceloop`."""
    parser = argparse.ArgumentParser(prog="onceloop", description="Run an app, or make what it needs first.")
    parser.add_argument("command", choices=("run", "init"), help="what to do")
    parser.add_argument("app", metavar="MODULE:APP", help="where the app is, such as books.ledger:app")
    asked = command.parsed(parser, argv)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does
    try:
        app = find(asked.app)
    except ReportedError as error:
        parser.error(f"{error.message}; {error.cure}")
    command.carry_out(app, asked)


def find(path: str) -> Once:
    """Return the app at MODULE:NAME. Raises UsageError if there is none."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name or "app", None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise UsageError(f"there is no module {module}", cure="run it where the module is") from error
    if not isinstance(found, Once):
        raise UsageError(f"{path} is not a Once app", cure="name it as MODULE:APP")
    return found
