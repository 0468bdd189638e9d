"""Make the passwords of a Compose stack, once: each container mounts a folder with its own, and no other.

    python -m deploy.images.make_secrets      # /secrets/<holder> is that container's /run/secrets

Whatever is there already stays, so it runs before every start. The folders are volumes: they live and go together with
the data that these passwords open (`docker compose down --volumes`).
"""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.provision.roles import ROLES
from services import table

FOLDER = Path("/secrets")
SUPERUSER, REGISTRY = "postgres", "registry"
PROVISION = "provision"
"""Sets all of these passwords, so it holds all."""
HOLDERS: Mapping[str, tuple[str, ...]] = {
    PROVISION: (SUPERUSER, REGISTRY, *(role.name for role in ROLES)),
    "postgres": (SUPERUSER,),
    "registry": (REGISTRY,),
    **{role.removesuffix("_rw"): (role,) for role in table.ROLES},
    "connect": ("connect_rw",),
    "reader": ("reader",),
    "tools": ("checker",),
    "stock": ("stock_admin",),
}
"""Container -> the files it gets. `docker compose config` shows the volumes by the same names."""
PROPERTIES: Mapping[str, tuple[str, str]] = {
    "registry": ("registry.properties", "apicurio.datasource.password={registry}\n"),
    "connect": ("connect.properties", "connect_rw={connect_rw}\n"),
}
"""Files in the form that a Java program reads."""


def make(folder: Path) -> tuple[str, ...]:
    """Write what is missing, and return the names of the passwords that are new.

    The folder of `provision` is written first and is what the others are copied from: whatever interrupts this, the
    next run ends with the same password everywhere.
    """
    source = folder / PROVISION
    new = tuple(name for name in HOLDERS[PROVISION] if not (source / name).exists())
    for name in new:
        _write(source / name, secrets.token_urlsafe(32))
    passwords = {name: (source / name).read_text(encoding="utf-8") for name in HOLDERS[PROVISION]}
    for holder, names in HOLDERS.items():
        for name in names if holder != PROVISION else ():
            _write(folder / holder / name, passwords[name])
        if holder in PROPERTIES:
            name, text = PROPERTIES[holder]
            _write(folder / holder / name, text.format_map(passwords))
    return new


def _write(path: Path, text: str) -> None:
    """Put the file there whole. Any user of the one container that mounts the folder may read it."""
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.chmod(0o444)
    aside.replace(path)


if __name__ == "__main__":
    made = make(FOLDER)
    sys.stdout.write(f"secrets: {len(made)} new\n" if made else "secrets: all there\n")
