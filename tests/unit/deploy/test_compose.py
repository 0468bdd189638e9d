"""compose.yaml: what can be said of it without an engine."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # comes with schemathesis, without types

from common.config import PREFIX, WorkerSettings
from deploy.images.make_secrets import FOLDER, HOLDERS, make
from deploy.local.servers import connect, kafka, kafka_controller, kafka_node
from services.row import Service
from services.table import BY_NAME, EXPORTER, SERVICES
from tests.compose import FILE, compose, environment, services
from tests.unit.test_env_example import FIELDS, settings_of
from tools.standin.__main__ import SERVERS

LIMIT_MIB = 2048
OURS = {name for name, service in services().items() if service["image"] == "order-pipeline:local"}
DEFAULT = {name for name, service in services().items() if "profiles" not in service}
LASTING = {name for name, service in services().items() if service.get("restart") == "unless-stopped"}
SETTING = re.compile(r"^([a-z.]+)=(.*)$", flags=re.MULTILINE)
AT_ADDRESSES = {
    *("bootstrap.servers", "listeners", "rest.advertised.host.name", "plugin.path", "group.id"),
    *("config.storage.topic", "offset.storage.topic", "status.storage.topic"),
    *("config.providers.file.param.allowed.paths", "offset.flush.interval.ms"),
}
OF_THIS_MACHINE = {"node.id", "controller.quorum.voters", "listeners", "advertised.listeners", "log.dirs"}


def volumes(service: str) -> dict[str, str]:
    """Return volume or path -> where it is mounted."""
    return {each.split(":")[0]: each.split(":")[1] for each in services()[service].get("volumes", ())}


def mebibytes(service: dict[str, Any]) -> int:
    assert service["mem_limit"].endswith("m")
    return int(service["mem_limit"][:-1])


def test_there_are_services_to_judge() -> None:
    assert {"kafka", "postgres", "registry", "provision", "order-api", "inventory", "metrics-totals"} <= DEFAULT
    assert len(OURS) > 8


@pytest.mark.parametrize("name", services())
def test_no_container_has_a_right_that_it_does_not_need(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert service["mem_limit"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_cannot_write_into_themselves(name: str) -> None:
    assert services()[name]["read_only"] is True
    assert services()[name].get("user") == ("0:0" if name == "secrets" else None), "the image's user is no role's"


def test_root_has_no_network() -> None:
    assert services()["secrets"]["network_mode"] == "none"


def test_only_the_api_is_published() -> None:
    assert {name for name in DEFAULT if "ports" in services()[name]} == {"order-api"}


def test_whatever_is_published_is_on_loopback() -> None:
    assert [
        each for service in services().values() for each in service.get("ports", ()) if each[:10] != "127.0.0.1:"
    ] == []


def test_who_publishes_nothing_cannot_reach_out() -> None:
    assert compose()["networks"]["inside"]["internal"] is True
    reaching_out = {name for name, service in services().items() if "outside" in service.get("networks", ())}
    assert reaching_out == {name for name, service in services().items() if "ports" in service}


def test_limits_of_the_default_profile_stay_below_two_gigabytes() -> None:
    limits = (
        mebibytes(services()[name]) * services()[name].get("deploy", {}).get("replicas", 1)
        for name in DEFAULT & LASTING
    )
    assert sum(limits) < LIMIT_MIB


def test_every_setting_is_one_that_a_process_reads() -> None:
    given = {name for service in OURS for name in environment(service) if name.startswith(PREFIX)}
    assert len(given) > 8
    assert {name for name in given if name not in FIELDS and name.removesuffix("_FILE") not in FIELDS} == set()


def test_services_of_the_table_run_and_no_others() -> None:
    assert set(BY_NAME) == DEFAULT & LASTING & OURS


@pytest.mark.parametrize("row", SERVICES, ids=lambda row: str(row.name))
def test_whatever_has_a_slot_claims_it(row: Service) -> None:
    """A service's slots are its own; one that has none is started as it is."""
    service, start = services()[row.name], ["python", "-m", *row.program]
    if not issubclass(settings_of(row), WorkerSettings):
        assert service["command"] == start
        return
    assert service["command"] == ["python", "-m", "deploy.images.claim_slot", row.name, *start]
    assert volumes(row.name)["slots"] == "/var/lib/order-pipeline/slots"
    assert "PIPELINE_SLOT" not in environment(row.name)
    assert service.get("deploy", {}).get("replicas", 1) == (row.slots or 1)


@pytest.mark.parametrize("row", [*SERVICES, EXPORTER], ids=lambda row: str(row.name))
def test_each_service_acts_as_its_own_role(row: Service) -> None:
    given = environment(row.name)
    if row.role is None:
        assert not [name for name in given if name.startswith("PIPELINE_POSTGRES")]
        return
    assert given["PIPELINE_POSTGRES_URL"] == f"postgresql://{row.role}@postgres:5432/pipeline"
    assert given["PIPELINE_POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{row.role}"


def test_prometheus_scrapes_every_service() -> None:
    """Each by its name, at the port of its probes."""
    settings = yaml.safe_load((FILE.parent / "deploy/images/prometheus.yml").read_text(encoding="utf-8"))
    found = {
        job["job_name"]: [(each["names"], each["port"]) for each in job["dns_sd_configs"]]
        for job in settings["scrape_configs"]
        if "dns_sd_configs" in job
    }
    assert found == {row.name: [([row.name], 8090)] for row in (*SERVICES, EXPORTER)}


def test_servers_are_waited_for_until_they_are_healthy() -> None:
    waits = services()["provision"]["depends_on"]
    assert {name: each["condition"] for name, each in waits.items()} == dict.fromkeys(
        ("kafka", "postgres", "registry"), "service_healthy"
    )
    for name in waits:
        assert services()[name]["healthcheck"]["test"], name


def test_services_wait_for_provisioning() -> None:
    for name in DEFAULT & LASTING & OURS:
        assert services()[name]["depends_on"]["provision"]["condition"] == "service_completed_successfully", name


@pytest.mark.parametrize(("service", "own"), [("controller", kafka_controller._SETTINGS), ("kafka", kafka._SETTINGS)])
def test_kafka_has_the_settings_of_the_local_stack(service: str, own: str) -> None:
    session_ms = kafka_node.SESSION_SECONDS * 1000
    local = dict(SETTING.findall((own + kafka_node._SETTINGS).replace("{session_ms}", str(session_ms))))
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in environment(service).items()
    }
    assert len(local) > 10
    assert {name: given.get(name) for name in local if name not in OF_THIS_MACHINE} == {
        name: value for name, value in local.items() if name not in OF_THIS_MACHINE
    }


def test_controller_and_broker_are_two_nodes_of_one_cluster() -> None:
    """Data of a broker without a controller must not pass for theirs."""
    ids = {environment(name)["CLUSTER_ID"] for name in ("controller", "kafka")}
    assert len(ids) == 1
    assert ids != {"5L6g3nShT-eMCtK--X86sw"}, "the image's default, which a broker without a controller had"
    assert services()["kafka"]["depends_on"]["controller"]["condition"] == "service_healthy"


def test_connect_has_the_settings_of_the_local_stack() -> None:
    given = dict(SETTING.findall((FILE.parent / "deploy/images/connect.properties").read_text(encoding="utf-8")))
    local = dict(SETTING.findall(connect._SETTINGS))
    assert given.keys() == local.keys()
    assert {name for name in local if given[name] != local[name]} <= AT_ADDRESSES


def test_each_container_sees_its_own_passwords_alone() -> None:
    assert volumes("secrets") == {f"secrets-{holder}": f"{FOLDER}/{holder}" for holder in HOLDERS}
    for name in services().keys() - {"secrets"}:
        mounted = [volume for volume in volumes(name) if volume.startswith("secrets-")]
        assert len(mounted) <= 1, name
        assert all(each.endswith(":ro") for each in services()[name].get("volumes", ()) if "secrets-" in each), name
        for variable, file in environment(name).items():
            if variable.endswith("PASSWORD_FILE"):
                assert file.removeprefix("/run/secrets/") in HOLDERS[mounted[0].removeprefix("secrets-")], name


def test_no_password_stands_in_the_file() -> None:
    given = {name for service in services() for name in environment(service)}
    assert [name for name in given if "PASSWORD" in name and not name.endswith("_FILE")] == []


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    for holder in HOLDERS:
        (tmp_path / holder).mkdir()
    return tmp_path


def passwords(folder: Any) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.glob("*/*")}


def test_passwords_are_made_once(folder: Any) -> None:
    assert set(make(folder)) == set(HOLDERS["provision"])
    before = passwords(folder)
    assert make(folder) == ()
    assert passwords(folder) == before


def test_holders_of_a_password_have_the_same(folder: Any) -> None:
    make(folder)
    made = passwords(folder)
    for holder, names in HOLDERS.items():
        for name in names:
            assert made[f"{holder}/{name}"] == made[f"provision/{name}"]
    assert made["registry/registry.properties"] == f"apicurio.datasource.password={made['provision/registry']}\n"
    assert len({made[f"provision/{name}"] for name in HOLDERS["provision"]}) == len(HOLDERS["provision"])


def test_interrupted_making_is_finished_with_the_same_passwords(folder: Any) -> None:
    make(folder)
    before = passwords(folder)
    for lost in ("order/order_rw", "registry/registry.properties"):
        (folder / lost).unlink()
    make(folder)
    assert passwords(folder) == before


def test_there_is_a_stand_in_for_every_image_of_the_default_profile() -> None:
    assert set(SERVERS) == {services()[name]["image"] for name in DEFAULT} - {"order-pipeline:local"}
