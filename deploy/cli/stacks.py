"""The stack that a subcommand works on: it is there, and it runs."""

from pathlib import Path
from typing import TypeVar

from common.config import Settings, load
from deploy.local import home as homes
from deploy.local.home import NotRunningError
from deploy.local.servers.addresses import Addresses
from deploy.local.stack import state
from deploy.local.stack.hints import home_option
from deploy.local.stack.servers import addresses_of
from onceloop.errors import ConfigError
from services.folder import Added
from services.folder import load as load_services

S = TypeVar("S", bound=Settings)


def running(home: Path) -> Addresses:
    """Return where the servers of the stack in `home` are.

    Raises ConfigError when none was ever started there, NotRunningError when it was stopped since, so that no one
    looks for a fault in a database that is merely down.
    """
    place = homes.at(home)
    addresses = addresses_of(place)
    stack = state.current(place)
    if stack is not None and not stack.pid:  # without a state there is no supervisor, but there may be servers
        raise NotRunningError(
            f"the stack in {place.root} is not running ({stack.phase})",
            cure=f"start it: pipeline up{home_option(place)}, or name another folder: --home DIR",
        )
    return addresses


def services_of(home: Path) -> tuple[Added, ...]:
    """Return the services that were added to the stack in `home`; none where it does not run."""
    stack = state.current(homes.at(home))
    return load_services(Path(folder) for folder in stack.services) if stack is not None and stack.pid else ()


def running_or_named(home: Path, settings: type[S], what: str) -> Addresses | S:
    """Return where the stack in `home` is; without one, what the environment names, or say that it names no `what`.

    A stack at hand comes first: a variable left over in a shell never sends a change elsewhere.
    """
    try:
        return running(home)
    except ConfigError as no_stack:
        try:
            return load(settings)
        except ConfigError as unset:
            raise ConfigError(
                f"{no_stack.message}, and the environment names no {what}:\n{unset.message}", cure=no_stack.cure
            ) from unset
