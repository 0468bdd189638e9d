from pathlib import Path

from deploy.local import jars
from deploy.local.monitoring import MonitoringPart, agent, targets

PORTS = {
    "kafka": 9092,
    "postgres": 5432,
    "registry_management": 8082,
    "api": 8080,
    "health.order-projection": 8090,
    "health.inventory-0": 8091,
    "health.inventory-11": 8102,
    "prometheus": 9090,
    "exporter": 9308,
    "kafka_jmx": 9404,
}


def test_each_process_with_a_page_is_a_target_under_its_service_and_its_own_name() -> None:
    found = {(each.job, each.instance): each.port for each in targets(PORTS)}
    assert found == {
        ("order-api", "order-api"): 8080,
        ("order-projection", "order-projection"): 8090,
        ("inventory", "inventory-0"): 8091,
        ("inventory", "inventory-11"): 8102,
        ("exporter", "exporter"): 9308,
        ("kafka", "kafka"): 9404,
        ("registry", "registry"): 8082,
    }


def test_agent_is_an_option_of_the_broker_and_listens_on_loopback() -> None:
    cache = jars.cached(Path("cache"), sets=MonitoringPart().jar_sets)
    (option,) = agent(cache, "jmx-kafka.yml", 9404)
    jar, _, rest = option.removeprefix("-javaagent:").partition("=")
    assert Path(jar).name == "jmx_prometheus_javaagent-1.0.1.jar"
    address, _, rules = rest.rpartition(":")
    assert address == "127.0.0.1:9404"
    assert Path(rules).is_file()
    assert MonitoringPart().broker_options(cache, PORTS) == (option,)
