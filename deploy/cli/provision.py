"""`pipeline provision`: everything that must stand before a service starts."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr

from common.config import PREFIX, load
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, ServiceOption, example
from deploy.cli.stacks import running, services_of
from deploy.local import home as homes
from deploy.local.home import Home, read_secret
from deploy.local.servers.addresses import DATABASE
from deploy.local.stack import state
from deploy.local.stack.parts import load as load_part
from deploy.provision.config import ProvisionSettings
from deploy.provision.run import Done
from deploy.provision.run import provision as provision_all
from onceloop.errors import ConfigError
from services.folder import load as load_services

NAMED_MAX = 4
app = typer.Typer(**TYPER_OPTIONS)


@app.command(**example("see what a second run changes: nothing", "pipeline provision --json"))
def provision(home: HomeOption = DEFAULT, *, folders: ServiceOption = None, as_json: JsonOption = False) -> None:
    """Make roles, database, tables, topics, first group offsets, schemas, demo stock and Connect's connectors.

    Whatever stands already is left as it is, so it may run at any time and as often as you like; `pipeline up` runs
    it at every start. The servers come from PIPELINE_POSTGRES_ADMIN_URL, PIPELINE_KAFKA_BOOTSTRAP,
    PIPELINE_REGISTRY_URL and PIPELINE_ROLE_SECRETS_DIR; where these are not set, from the stack in --home, and the
    added services are those that run in it.
    """
    reported: list[Done] = []
    added = load_services(folders) if folders else services_of(home)
    provision_all(provision_settings(home), reported.append if as_json else _print_step, added)
    if as_json:
        typer.echo(json.dumps([asdict(done) for done in reported], indent=2))


def provision_settings(home: Path) -> ProvisionSettings:
    """Return where to change things with an administrator's rights: the environment, or the stack in `home`."""
    try:
        return load(ProvisionSettings)
    except ConfigError as unset:
        try:
            addresses = running(homes.at(home).root)
        except ConfigError:
            raise unset from None
    return ProvisionSettings(
        **_optional_parts(homes.at(home)),
        database=DATABASE,
        kafka_bootstrap=addresses.kafka_bootstrap,
        registry_url=addresses.registry_url,
        postgres_admin_url=addresses.postgres_admin_url,
        postgres_admin_password=SecretStr(read_secret(addresses.postgres_admin_password_file)),
        role_secrets_dir=addresses.role_secrets_folder,
    )


def _optional_parts(home: Home) -> dict[str, Any]:
    """Return the settings that lead to the optional parts of the running stack."""
    stack = state.current(home)
    if stack is None or not stack.pid:
        return {}
    variables = {
        name: value
        for part in stack.parts
        for name, value in load_part(part).provision_environment(home, stack.ports).items()
    }
    return {name.removeprefix(PREFIX).lower(): value for name, value in variables.items()}


def _print_step(done: Done) -> None:
    typer.echo(f"{done.step:<11} {done.standing}; {_changed(done.changed)}")


def _changed(names: tuple[str, ...]) -> str:
    if not names:
        return "nothing to do"
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"new: {', '.join(names[:NAMED_MAX])}{more}"
