"""Know in which form the data of a stack are, and bring older ones into today's before a server starts on them.

A form is what lies in the stack's folder: which server keeps what where. Tables and topics are not part of it:
provisioning migrates those, on servers that run. Forms count from 1, that of version 0.1.0.

Each step may be repeated, since a crash can lie behind it and before its note; none removes what it has read before the
new form stands.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType

from deploy.local.home import Home, write_atomically
from onceloop.errors import ConfigError

FORMAT = 1
"""What this version writes. To be raised with a step in `STEPS`, never without."""
Step = Callable[[Home], None]
STEPS: Mapping[int, Step] = MappingProxyType({})
"""From form -> what makes the next one of it. No release has had another form yet."""


def bring_up_to_date(home: Home, *, steps: Mapping[int, Step] = STEPS, target: int = FORMAT) -> tuple[int, ...]:
    """Run the steps that are missing, oldest first, with a note after each; return the forms that were left behind.

    Nothing of the stack may run. Raises ConfigError for data that are newer, or older than any release; they stay as
    they are.
    """
    found = _format_of(home, target)
    if found > target:
        raise ConfigError(
            f"the data in {home.root} were written by a newer version (format {found}; this one"
            f" supports up to {target})",
            cure="continue with the version that wrote them, or start another stack beside them: --home DIR",
        )
    left = tuple(range(found, target))
    for former in left:
        steps[former](home)
        _note(home, former + 1)
    if not left:
        _note(home, target)
    return left


def _format_of(home: Home, target: int) -> int:
    """Return the form of the data: as noted, or as they look where an older version noted none."""
    if home.format.exists():
        return _noted(home)
    if not home.data("kafka").exists() and not home.data("postgres").exists():
        return target
    if home.data("kafka").exists() and not home.data("controller").exists():
        raise ConfigError(
            f"the data in {home.root} are of a checkout from before version 0.1: its broker was its own controller",
            cure="go on with the checkout that wrote them, or start another stack beside them: --home DIR",
        )
    return 1


def _noted(home: Home) -> int:
    try:
        number = int(json.loads(home.format.read_text(encoding="utf-8"))["format"])
    except (ValueError, KeyError, TypeError):
        number = 0
    if number < 1:
        raise ConfigError(
            f"{home.format} does not say in which form the data are",
            cure='restore the number that was there ({"format": 1} for version 0.1), or start elsewhere: --home DIR',
        )
    return number


def _note(home: Home, number: int) -> None:
    write_atomically(home.format, json.dumps({"format": number}) + "\n")
