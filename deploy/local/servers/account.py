"""Decide as whom PostgreSQL runs: it refuses root, so root must hand it to an account without privileges.

That account must reach the programs in the virtual environment and the data folder. Below a folder that root keeps to
itself (a clone in /root, a temporary directory) it cannot. No file's permissions are changed for that: where Linux's
`setpriv` is at hand, the process alone gets the one capability to pass such folders; else the error names the cure.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onceloop.errors import ConfigError

CANDIDATES = ("postgres", "nobody")
_ROOT = 0


@dataclass(frozen=True, slots=True)
class Account:
    """How to start a process under another account. Empty: as ourselves."""

    user: str | None = None
    """The account to switch to when starting."""
    prefix: tuple[str, ...] = ()
    """A program in front of the command line that does the switching instead."""
    owner: pwd.struct_passwd | None = None
    """Who must own what the process writes."""

    def give(self, path: Path) -> None:
        """Make the path the account's own."""
        if self.owner is not None:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)


@cache
def account_for(*paths: Path) -> Account:
    """Return the account that can run PostgreSQL on these existing paths; raise `ConfigError` when none can."""
    if os.geteuid() != _ROOT:
        return Account()
    entry = _unprivileged()
    if all(_passes((), path, user=entry.pw_name) for path in paths):
        return Account(user=entry.pw_name, owner=entry)
    prefix = _setpriv(entry)
    if shutil.which(prefix[0]) and all(_passes(prefix, path, user=None) for path in paths):
        return Account(prefix=prefix, owner=entry)
    barrier = first_barrier(paths)
    raise ConfigError(
        f"PostgreSQL refuses to run as root, and the user {entry.pw_name!r} cannot pass {barrier}",
        cure=f"work as an ordinary user, move out of that folder, or open it for passage: chmod o+x {barrier}",
    )


def first_barrier(paths: Iterable[Path]) -> Path | None:
    """Return the outermost folder above the paths that does not let others pass."""
    above = (folder for path in paths for folder in reversed(path.parents))
    return next((folder for folder in above if not folder.stat().st_mode & 0o001), None)


def _unprivileged() -> pwd.struct_passwd:
    for name in CANDIDATES:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigError(
        "PostgreSQL refuses to run as root, and there is no account to run it as",
        cure="work as an ordinary user, or make one: useradd --system postgres",
    )


def _setpriv(entry: pwd.struct_passwd) -> tuple[str, ...]:
    """Return the prefix that becomes the account but keeps the right to pass folders.

    Without the secure bit, access(2), by which PostgreSQL looks for its own files, would ignore the capability.
    """
    identity = (f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    passage = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup")
    return ("setpriv", *identity, *passage, "--")


def _passes(prefix: tuple[str, ...], path: Path, *, user: str | None) -> bool:
    groups: list[int] | None = None if user is None else []
    group = None if user is None else pwd.getpwnam(user).pw_gid
    command = (*prefix, "test", "-x", str(path))
    test = subprocess.run(command, user=user, group=group, extra_groups=groups, capture_output=True, check=False)
    return test.returncode == 0
