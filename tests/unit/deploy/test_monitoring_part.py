from pathlib import Path

from deploy.local.fetch import jars
from deploy.local.servers import jmx
from deploy.local.servers.prometheus import Target
from deploy.local.stack.monitoring import MonitoringPart, targets

PORTS = {
    "kafka": 9092,
    "controller": 9093,
    "postgres": 5432,
    "registry_management": 8082,
    "api": 8080,
    "health.order-api": 8089,
    "health.order-projection": 8090,
    "health.inventory-0": 8091,
    "health.inventory-11": 8102,
    "prometheus": 9090,
    "exporter": 9308,
    "kafka_jmx": 9404,
    "connect_jmx": 9405,
    "controller_jmx": 9406,
}


def test_each_process_with_a_page_is_a_target_under_its_service_and_its_own_name() -> None:
    found = {(each.job, each.instance): each.port for each in targets(PORTS)}
    assert found == {
        ("order-api", "order-api"): 8089,
        ("order-projection", "order-projection"): 8090,
        ("inventory", "inventory-0"): 8091,
        ("inventory", "inventory-11"): 8102,
        ("exporter", "exporter"): 9308,
        ("kafka", "kafka"): 9404,
        ("controller", "controller"): 9406,
        ("registry", "registry"): 8082,
    }
    assert set(targets({**PORTS, "connect": 8083})) - set(targets(PORTS)) == {Target("connect", "connect", 9405)}


def test_jvm_carries_the_agent_on_loopback_where_it_is_monitored_and_nowhere_else() -> None:
    cache = jars.cached(Path("cache"), sets=MonitoringPart().jar_sets)
    (option,) = MonitoringPart().java_options("kafka", cache, PORTS)
    jar, _, rest = option.removeprefix("-javaagent:").partition("=")
    assert Path(jar).name == "jmx_prometheus_javaagent-1.0.1.jar"
    address, _, rules = rest.rpartition(":")
    assert address == "127.0.0.1:9404"
    assert Path(rules).is_file()
    assert jmx.agent("connect", jars.cached(Path("cache")), {"connect": 8083}) == ()
