from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.fetch.artifacts import locked
from deploy.local.fetch.jars import Jars
from deploy.local.servers.addresses import Addresses
from deploy.local.stack.servers import PORTS, addresses_on
from deploy.local.stack.services import HTTP, Provision, port_name, processes, programs, provision_environment
from deploy.local.supervise.launch import label
from deploy.local.supervise.process import child_environment
from services.folder import RESERVED, SET_FOR_IT
from services.row import Service
from services.table import with_slots


@pytest.fixture
def addresses(tmp_path: Path) -> Addresses:
    ports = dict.fromkeys(PORTS, 0) | {"kafka": 9092, "postgres": 5432, "registry": 8081}
    return addresses_on(homes.at(tmp_path), Jars(tmp_path, locked()), ports)


def test_addresses_of_another_stack_do_not_leak_into_a_process() -> None:
    inherited = {
        "PATH": "/bin",
        "PIPELINE_POSTGRES_PASSWORD": "of another stack",
        "PIPELINE_KAFKA_BOOTSTRAP": "elsewhere:9092",
        "PIPELINE_SLOT": "7",
        "PGPORT": "1",
        "PIPELINE_LOG_LEVEL": "debug",
    }
    own = {"PIPELINE_KAFKA_BOOTSTRAP": "here:9092"}
    assert child_environment(inherited, own) == {
        "PATH": "/bin",
        "PIPELINE_LOG_LEVEL": "debug",
        "PIPELINE_KAFKA_BOOTSTRAP": "here:9092",
    }


def test_worker_is_given_its_slot_role_and_health_port(addresses: Addresses) -> None:
    services = with_slots({"inventory": 2})
    ports = {port_name(service, slot): 9000 + at for at, (service, slot) in enumerate(processes(services))}
    ports[HTTP] = 8080
    by_label = {label(program): program.launch() for program in programs(services, addresses, ports)}
    assert list(by_label) == [
        *("order-api", "order-projection", "inventory-0", "inventory-1"),
        *("notification-0", "metrics-0", "metrics-totals-0"),
    ]
    assert not any(name.startswith("PIPELINE_POSTGRES") for name in by_label["metrics-0"].environment)
    worker = by_label["inventory-1"].environment
    assert worker["PIPELINE_SLOT"] == "1"
    assert worker["PIPELINE_HEALTH_PORT"] == "9003"
    assert worker["PIPELINE_POSTGRES_URL"] == "postgresql://inventory_rw@127.0.0.1:5432/pipeline"
    assert worker["PIPELINE_POSTGRES_PASSWORD_FILE"].endswith("/secrets/roles/inventory_rw")
    assert worker["PIPELINE_REGISTRY_URL"] == "http://127.0.0.1:8081/apis/ccompat/v7"
    assert worker["PIPELINE_SCHEMA_CACHE_DIR"] == str(addresses.home.schemas)
    api = by_label["order-api"].environment
    assert (api["PIPELINE_HTTP_HOST"], api["PIPELINE_HTTP_PORT"]) == ("127.0.0.1", "8080")
    assert api["PIPELINE_HEALTH_PORT"] == "9000"
    assert "PIPELINE_SLOT" not in by_label["order-projection"].environment


def test_service_from_a_folder_is_run_there_with_its_own_settings(
    addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leads it to its stack is set for it, and nothing else that a row could not set."""
    monkeypatch.setenv("PYTHONPATH", "/lib/of/the/shell")
    variables = {"FRAUD_UNITS_MAX": "20"}
    service = Service(
        name="fraud", program=("fraud",), role="fraud_rw", slots=1, folder=tmp_path / "own", variables=variables
    )
    (program,) = programs([service], addresses, {port_name(service, 0): 9000})
    environment = program.launch().environment
    assert environment["PYTHONPATH"] == f"{tmp_path / 'own'}:/lib/of/the/shell"
    assert environment["FRAUD_UNITS_MAX"] == "20"
    assert environment["PIPELINE_POSTGRES_URL"] == "postgresql://fraud_rw@127.0.0.1:5432/pipeline"
    assert {name for name in environment if name.startswith("PIPELINE_")} | {"PYTHONPATH"} == SET_FOR_IT


def test_no_password_stands_in_an_environment_or_a_command(addresses: Addresses) -> None:
    homes.create(addresses.home)
    secrets = {homes.read_secret(path) for path in addresses.home.secrets.rglob("*") if path.is_file()}
    services = with_slots({"inventory": 1})
    ports = {HTTP: 1, **{port_name(service, slot): 1 for service, slot in processes(services)}}
    launches = [program.launch() for program in programs(services, addresses, ports)]
    launches += list(Provision(addresses).prepare())
    said = " ".join(text for launch in launches for text in (*launch.argv, *launch.environment.values()))
    assert not any(secret in said for secret in secrets)


def test_provisioning_is_given_where_the_passwords_stand(addresses: Addresses) -> None:
    environment = provision_environment(addresses)
    assert environment["PIPELINE_POSTGRES_ADMIN_URL"] == "postgresql://postgres@127.0.0.1:5432/postgres"
    assert environment["PIPELINE_ROLE_SECRETS_DIR"] == str(addresses.home.role_secrets)


def test_no_service_can_take_a_name_of_the_stack(addresses: Addresses) -> None:
    servers = {each.name for each in (addresses.controller, addresses.kafka, addresses.postgres, addresses.registry)}
    roles = {role.removesuffix("_rw") for role in homes.ROLES if role.endswith("_rw")}
    assert servers | roles | {Provision(addresses).name} <= RESERVED
