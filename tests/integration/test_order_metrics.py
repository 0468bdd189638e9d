"""The API's /metrics: one page for several processes, whichever of them were killed or replaced meanwhile."""

import os
import signal
from pathlib import Path

import psutil
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.api import Api, running_api
from tests.pipeline import Pipeline
from tests.processes import Process, wait_for

HTTP = "order_http_request_duration_seconds"
START_SECONDS = 30.0


def page(api: Api) -> dict[str, Metric]:
    answer = api.get("/metrics")
    assert answer.status == 200, answer
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


def value(api: Api, name: str) -> float | None:
    return next((sample.value for sample in page(api)[name].samples), None)


def served(api: Api) -> dict[tuple[str, str, str], int]:
    """Return how many requests were answered, by method, route and status."""
    return {
        (each.labels["method"], each.labels["route"], each.labels["status"]): round(each.value)
        for each in page(api)[HTTP].samples
        if each.name == f"{HTTP}_count"
    }


def listens(api: Api) -> bool:
    try:
        return api.get("/livez").status == 200
    except OSError:
        return False


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.db")}


def workers(process: Process) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def test_page_counts_for_all_processes__what_the_killed_counted_stays_and_what_they_were_doing_goes(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"of an earlier run, and torn")
    env = {"PIPELINE_HTTP_WORKERS": "2", "PIPELINE_HTTP_METRICS_DIR": str(tmp_path)}
    with running_api(pipeline, env) as (api, process):
        wait_for(lambda: value(api, "order_http_workers") == 2, timeout_seconds=START_SECONDS, what="two workers")
        assert api.place(key="a").status == api.place().status == 202
        for path in ("/orders/not-an-id", "/no/such/1", "/no/such/2", "/orders/a/b/c"):
            api.get(path)
        api.request("BREW", "/orders")
        expected = {
            ("POST", "/orders", "202"): 2,
            ("GET", "/orders/{order_id}", "400"): 1,
            ("GET", "unmatched", "404"): 3,
            ("OTHER", "unmatched", "405"): 1,
        }
        assert served(api) == expected
        assert value(api, "order_http_requests_in_progress") == 0
        accepted = {each.labels["idempotency_key"]: each.value for each in page(api)["order_requests_accepted"].samples}
        assert accepted == {"given": 1, "absent": 1}
        assert not [name for name in page(api) if not name.startswith(("order_http_", "order_requests_"))]

        killed = workers(process)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: len(workers(process)) == 2 and not set(workers(process)) & set(killed),
            timeout_seconds=START_SECONDS,
            what="two other workers",
        )
        process.wait_ready(process.http_url, timeout_seconds=START_SECONDS)
        wait_for(lambda: value(api, "order_http_workers") == 2, timeout_seconds=START_SECONDS, what="two workers again")
        assert served(api) == expected
        assert not [name for name in files(tmp_path) for pid in killed if name.endswith(f"_{pid}.db")]


def test_page_needs_neither_broker_nor_database__and_loses_nothing_when_processes_are_replaced(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Nothing listens where broker and database should be; one process, replaced after 20 requests, serves alone."""
    nowhere = pipeline.processes.free_port()
    env = {
        "PIPELINE_KAFKA_BOOTSTRAP": f"127.0.0.1:{nowhere}",
        "PIPELINE_POSTGRES_URL": f"postgresql://order_rw@127.0.0.1:{nowhere}/none",
        "PIPELINE_HTTP_REQUESTS_MAX": "20",
        "PIPELINE_HTTP_METRICS_DIR": str(tmp_path),
    }
    with running_api(pipeline, env, ready=False) as (api, _):
        wait_for(lambda: listens(api), timeout_seconds=START_SECONDS, what="it listens")
        for _ in range(50):
            assert api.get("/no/such").status == 404
        assert served(api) == {("GET", "unmatched", "404"): 50}
        assert len({name.rpartition("_")[2] for name in files(tmp_path)}) <= 4, (
            "master, worker, the dead, one that ends"
        )
        password = Path(pipeline.env("order_rw")["PIPELINE_POSTGRES_PASSWORD_FILE"]).read_bytes().strip()
        assert password not in api.get("/metrics").body
