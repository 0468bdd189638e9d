"""What provisioning refuses or reads before anything connects."""

import json
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr, ValidationError

from common.config import PostgresSettings
from deploy.cli.provision import provision_settings
from deploy.cli.psql import _pass_line
from deploy.local import home as homes
from deploy.local import state
from deploy.local.servers import PORTS
from deploy.local.state import Phase, StackState
from deploy.provision.config import ProvisionSettings
from deploy.provision.roles import OWNER, ROLES, read_passwords
from onceloop.errors import ConfigError


def make_settings(folder: Path, **changed: object) -> ProvisionSettings:
    return ProvisionSettings(
        **{
            "kafka_bootstrap": "127.0.0.1:9092",
            "registry_url": "http://127.0.0.1:8081",
            "postgres_admin_url": "postgresql://postgres@127.0.0.1:5432/postgres",
            "role_secrets_dir": folder,
            **changed,
        }  # type: ignore[arg-type]  # the wrong types are the point
    )


def write_passwords(folder: Path) -> None:
    for role in ROLES:
        (folder / role.name).write_text(f"of {role.name}\n")


def test_every_role_that_logs_in_has_a_password(tmp_path: Path) -> None:
    write_passwords(tmp_path)
    assert read_passwords(tmp_path) == {role.name: f"of {role.name}" for role in ROLES}
    assert OWNER not in {role.name for role in ROLES}


def test_each_missing_or_empty_password_is_named(tmp_path: Path) -> None:
    write_passwords(tmp_path)
    (tmp_path / "reader").unlink()
    (tmp_path / "checker").write_text("\n")
    with pytest.raises(ConfigError, match=r"no password in \S+/reader, \S+/checker$"):
        read_passwords(tmp_path)


@pytest.mark.parametrize("name", ["", "Pipeline", "pipe-line", "x; DROP DATABASE y", "1st", "x" * 64])
def test_a_database_name_is_a_plain_identifier(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError):
        make_settings(tmp_path, database=name)


@pytest.mark.parametrize(
    "url", ["postgresql://postgres@127.0.0.1", "postgresql://postgres@127.0.0.1:5432/", "postgresql://a@db:1/x"]
)
def test_an_admin_url_needs_no_database(tmp_path: Path, url: str) -> None:
    assert make_settings(tmp_path, postgres_admin_url=url).postgres_admin_url == url


@pytest.mark.parametrize("url", ["postgresql://postgres:secret@127.0.0.1/x", "postgres@127.0.0.1", "mysql://a@b/c"])
def test_an_admin_url_has_a_role_and_no_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValidationError):
        make_settings(tmp_path, postgres_admin_url=url)


def test_a_password_file_line_escapes_what_separates_its_fields() -> None:
    settings = PostgresSettings(
        postgres_url="postgresql://reader@127.0.0.1:5433/pipeline", postgres_password=SecretStr(r"a:b\c")
    )
    assert _pass_line(settings) == "127.0.0.1:5433:pipeline:reader:a\\:b\\\\c\n"


def test_stack_that_runs_is_provisioned_in_its_own_database_whatever_the_shell_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Red before: `pipeline provision` made the shell's database in the stack's server."""
    for name in ("KAFKA_BOOTSTRAP", "REGISTRY_URL", "POSTGRES_ADMIN_URL", "ROLE_SECRETS_DIR"):
        monkeypatch.delenv(f"PIPELINE_{name}", raising=False)
    monkeypatch.setenv("PIPELINE_DATABASE", "elsewhere")
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    ports, ourselves = dict.fromkeys(PORTS, 1), psutil.Process()
    home.ports.write_text(json.dumps(ports), encoding="utf-8")
    state.write(home, StackState(Phase.READY, ourselves.pid, ourselves.create_time(), ports, ()))
    assert provision_settings(home.root).database == "pipeline"
