"""The load on a real pipeline: what it says it did is what the books show, and the rules over both find nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.config import CheckerSettings
from audit.readers.evidence import Evidence
from audit.readers.http_history import read_history
from audit.readers.snapshots import StockSampler, read_snapshots
from audit.readers.written import read_written
from audit.rules.judge import Judgement
from audit.testimony import End, Kind
from audit.whole import audit
from chaos.load import DirectLoad, HttpLoad, Mix
from chaos.load.partitions import home_of
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED
from tests.api import running_api, start_projection
from tests.pipeline import Pipeline
from tests.records import read, wait_for

WAIT_SECONDS = 30.0


def settings_of(pipeline: Pipeline) -> CheckerSettings:
    at = pipeline.postgres("checker")
    return CheckerSettings(
        namespace=pipeline.namespace,
        kafka_bootstrap=pipeline.kafka.kafka_bootstrap,
        registry_url=pipeline.kafka.registry_url,
        postgres_url=at.postgres_url,
        postgres_password=at.postgres_password,
    )


def broken(judgement: Judgement) -> dict[str, list[str]]:
    return {r.invariant: [violation.what for violation in r.examples] for r in judgement.rulings if r.broken}


@contextmanager
def followers(pipeline: Pipeline) -> Iterator[None]:
    workers = [
        pipeline.start("inventory_service", role="inventory_rw"),
        pipeline.start("notification_service", role="notification_rw"),
        start_projection(pipeline),
    ]
    for worker in workers:
        worker.wait_ready()
    yield


def test_both_ways_in_are_proved_by_all_rules(pipeline: Pipeline, tmp_path: Path) -> None:
    """Aim: every rule gets something to judge, and what the load reports of itself agrees with the books."""
    mix = Mix(seed=7, http_orders=150, direct_orders=400, units=300, poison=0.05)
    pipeline.set_stock(dict(mix.shelves()))
    history, written, snapshots = tmp_path / "history", tmp_path / "written", tmp_path / "snapshots"
    with (
        followers(pipeline),
        running_api(pipeline) as (api, _),
        StockSampler(settings_of(pipeline), snapshots, every_seconds=0.2),
    ):
        direct = DirectLoad(pipeline.kafka, written).run(mix)
        over_http = HttpLoad(api.url, history).run(mix)
        evidence = Evidence(
            history=history,
            written=written,
            snapshots=snapshots,
            logs=[*(tmp_path / "pipeline-0").glob("*.log")],
            secrets=[pipeline.postgres("order_rw").postgres_password.get_secret_value()],
            reread=True,
        )
        judgement = audit(settings_of(pipeline), wait_seconds=WAIT_SECONDS, restocked=False, evidence=evidence)

    assert broken(judgement) == {}
    assert set(judgement.idle) <= {"S3"}  # no request was left unsure, unless this machine is very slow
    assert direct.orders == 400
    assert direct.info == 0
    assert direct.poison == judgement.counts["dead_letters"] > 0
    assert over_http.orders == 150
    assert judgement.counts["orders"] == direct.orders + over_http.orders
    assert judgement.counts["records"] >= direct.ok + over_http.orders
    assert over_http.fail > 0


def test_written_coordinates_are_those_of_the_topic(pipeline: Pipeline, tmp_path: Path) -> None:
    mix = Mix(seed=1, direct_orders=300, poison=0.1)
    DirectLoad(pipeline.kafka, tmp_path / "written").run(mix)

    on_topic = {(seen.partition, seen.offset): seen for seen in read(pipeline, ORDERS_CREATED)}
    written = read_written([tmp_path / "written"])
    assert {(record.partition, record.offset) for record in written} == on_topic.keys()
    assert {record.kind for record in written} == set(Kind)
    for record in written:
        seen = on_topic[record.partition or 0, record.offset or 0]
        assert (seen.key or b"").decode() == record.user
        if record.what != "elsewhere":
            assert seen.partition == home_of(record.user.encode(), 8)
        elif record.kind is Kind.COPY:
            assert seen.partition != home_of(record.user.encode(), 8)


def test_orders_over_http_lie_where_the_direct_ones_of_that_user_would(pipeline: Pipeline, tmp_path: Path) -> None:
    with running_api(pipeline) as (api, _):
        HttpLoad(api.url, tmp_path / "history").run(Mix(seed=2, http_orders=30, users=20))

    for seen in read(pipeline, ORDERS_CREATED):
        assert seen.partition == home_of(seen.key or b"", 8)


def test_an_api_that_dies_in_the_middle_is_waited_for_and_no_order_is_lost_or_doubled(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Aim: the history stays true through a kill. Fault: the API is killed under load, and comes back elsewhere."""
    mix = Mix(seed=3, http_orders=400, http_rate=200)
    pipeline.set_stock(dict(mix.shelves()))
    history = tmp_path / "history"
    where = ["http://127.0.0.1:9"]
    load = HttpLoad(lambda: where[0], history, patience_seconds=60)
    loading = threading.Thread(target=load.run, args=(mix,))
    inventory = pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    with running_api(pipeline) as (api, process):
        where[0] = api.url
        loading.start()
        wait_for(lambda: load.done > 100, what="the load")
        process.kill()
    with running_api(pipeline) as (api, _):
        where[0] = api.url
        loading.join(WAIT_SECONDS)
        assert not loading.is_alive()
        evidence = Evidence(history=history)
        judgement = audit(settings_of(pipeline), wait_seconds=WAIT_SECONDS, followers=False, evidence=evidence)

    assert inventory.stop() == 0
    assert broken(judgement) == {}
    ends = [request.end for request in read_history([history])]
    assert ends.count(End.INFO) > 0
    assert ends.count(End.OK) >= 390


def test_a_load_is_stopped_from_another_thread(pipeline: Pipeline, tmp_path: Path) -> None:
    load = DirectLoad(pipeline.kafka, tmp_path / "written")
    loading = threading.Thread(target=load.run, args=(Mix(seed=4, direct_orders=1_000_000, direct_rate=500),))
    loading.start()
    wait_for(lambda: load.done > 100, what="the load")

    load.stop.set()
    loading.join(10)

    assert not loading.is_alive()
    assert load.done == len(read_written([tmp_path / "written"])) < 100_000


def test_a_load_without_a_server_ends_and_leaves_all_unsure(tmp_path: Path) -> None:
    began = time.monotonic()
    tally = HttpLoad("http://127.0.0.1:9", tmp_path / "history", patience_seconds=0.2).run(Mix(seed=5, http_orders=8))

    assert (tally.ok, tally.fail, tally.orders) == (0, 0, 0)
    assert tally.info >= 8
    assert not any(request.sent for request in read_history([tmp_path / "history"]))
    assert time.monotonic() - began < 10


def test_a_sampler_that_meets_no_database_counts_what_it_missed(pipeline: Pipeline, tmp_path: Path) -> None:
    nowhere = settings_of(pipeline).model_copy(update={"postgres_url": "postgresql://checker@127.0.0.1:1/none"})
    with StockSampler(nowhere, tmp_path / "snapshots", every_seconds=0.05) as sampler:
        wait_for(lambda: sampler.missed > 1, what="two misses")

    assert sampler.taken == 0


def test_snapshots_are_read_back_as_they_were_taken(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.set_stock({"tea": 5, "mug": 0})
    with StockSampler(settings_of(pipeline), tmp_path / "snapshots", every_seconds=0.05) as sampler:
        wait_for(lambda: sampler.taken > 1, what="two snapshots")

    snapshots = read_snapshots([tmp_path / "snapshots"])
    assert len(snapshots) == sampler.taken
    assert [tuple(row) for row in snapshots[0].stock] == [("mug", 0, 0, 0), ("tea", 5, 5, 0)]


def test_scarce_shelves_give_both_outcomes(pipeline: Pipeline, tmp_path: Path) -> None:
    mix = Mix(seed=6, direct_orders=200, skus=10, units=20)
    pipeline.set_stock(dict(mix.shelves()))
    inventory = pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    DirectLoad(pipeline.kafka, tmp_path / "written").run(mix)
    wait_for(lambda: len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED)) == 200, what="all outcomes")

    assert read(pipeline, INVENTORY_RESERVED)
    assert read(pipeline, INVENTORY_FAILED)
    assert inventory.stop() == 0
