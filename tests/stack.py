"""Where the servers of a test run are: started for it, or given."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.config import load
from deploy.local.home import read_secret
from deploy.local.stack import servers
from deploy.provision.config import ProvisionSettings
from deploy.provision.roles import ROLES


@dataclass(frozen=True, slots=True)
class Stack:
    """The servers. `home`: their folder, None where they were given. Databases are copied from `template`."""

    settings: ProvisionSettings
    home: Path | None
    template: str


@contextmanager
def local_stack(folder: Path) -> Iterator[Stack]:
    """Start all of them on free ports; they and their data are gone at the end."""
    with servers.start(folder) as started:
        at = started.addresses
        settings = ProvisionSettings(
            kafka_bootstrap=at.kafka_bootstrap,
            registry_url=at.registry_url,
            postgres_admin_url=at.postgres_admin_url,
            postgres_admin_password=SecretStr(read_secret(at.postgres_admin_password_file)),
            role_secrets_dir=at.role_secrets_folder,
        )
        yield Stack(settings, at.home.root, template_name())


@contextmanager
def external_stack(folder: Path) -> Iterator[Stack]:
    """Take the servers that the environment names; passwords of the roles are set again."""
    write_role_secrets(folder)

    class ExternalSettings(ProvisionSettings):
        role_secrets_dir: Path = folder

    yield Stack(load(ExternalSettings), None, template_name())


def write_role_secrets(folder: Path) -> None:
    """Make up a password for every role."""
    for role in ROLES:
        (folder / role.name).write_text(secrets.token_urlsafe(), encoding="utf-8")


def shared(stack: Stack) -> dict[str, Any]:
    """Return what another process of this run needs to use the same servers; see `joined`."""
    settings = stack.settings.model_dump(mode="json", include={"kafka_bootstrap", "registry_url", "postgres_admin_url"})
    return {
        **settings,
        "postgres_admin_password": stack.settings.postgres_admin_password.get_secret_value(),
        "role_secrets_dir": str(stack.settings.role_secrets_dir),
        "home": str(stack.home) if stack.home else None,
        "template": stack.template,
    }


def joined(found: dict[str, Any]) -> Stack:
    """Return the stack that another process of this run started."""
    home = Path(found["home"]) if found["home"] else None
    return Stack(ProvisionSettings(**found), home, found["template"])


def template_name() -> str:
    """Return a name that no other run gives its template."""
    return f"test_template_{secrets.token_hex(4)}"
