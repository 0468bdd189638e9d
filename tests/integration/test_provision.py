"""Provisioning as a whole, on real servers: complete, repeatable, and stopped by what it must not paper over."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import confluent_kafka
import pytest
import sqlalchemy as sa

import migrations
from common.kafka.admin import Admin
from common.kafka.admin_calls import AdminCalls
from common.kafka.members import member_options, writer_options
from common.topics import (
    ALL_TOPICS,
    INVENTORY,
    METRICS,
    METRICS_PARTIALS,
    METRICS_TOTALS,
    NOTIFICATION,
    ORDER_STATUS,
    ORDERS_CREATED,
)
from deploy.provision import database
from deploy.provision.config import ProvisionSettings
from deploy.provision.run import Done, provision
from onceloop.errors import ConfigError, FatalError, ReportedError
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.records import CommitPoint, Partition
from tests.pipeline import Pipeline
from tests.processes import wait_for
from tests.records import write
from tests.stack import Stack

STEPS = ["roles", "database", "migrations", "topics", "offsets", "schemas", "stock"]
MIGRATIONS = tuple(sorted(file.name[:4] for file in Path(migrations.__file__).parent.glob("versions/[0-9]*.py")))
GROUPS = [INVENTORY, NOTIFICATION, ORDER_STATUS, METRICS, METRICS_TOTALS]


@pytest.fixture
def untouched(servers: Stack) -> Iterator[ProvisionSettings]:
    """A namespace and a database name under which nothing stands yet."""
    token = secrets.token_hex(5)
    settings = servers.settings.model_copy(update={"namespace": f"p{token}", "database": f"provision_{token}"})
    yield settings
    admin = Admin(settings)
    admin.delete_topics()
    admin.delete_groups(GROUPS)
    with database.admin_connection(settings, "postgres") as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {settings.database} WITH (FORCE)")


def run(settings: ProvisionSettings) -> dict[str, Done]:
    reported: list[Done] = []
    provision(settings, reported.append)
    return {done.step: done for done in reported}


@contextmanager
def member(pipeline: Pipeline) -> Iterator[GroupConsumer]:
    """A live member of the inventory group that owns every partition."""
    consumer = GroupConsumer(
        member_options(pipeline.kafka, INVENTORY, slot=0),
        [ORDERS_CREATED.within(pipeline.namespace)],
        service=INVENTORY.name,
    )
    try:

        def joined() -> bool:
            consumer.take(1)
            return len(consumer.owned) == ORDERS_CREATED.partitions

        wait_for(joined, timeout_seconds=15, what="the member owns all partitions")
        yield consumer
    finally:
        consumer.close()


def test_database_of_a_newer_version_is_refused_before_anything_is_changed(untouched: ProvisionSettings) -> None:
    """It was an internal error, and the roles had been changed by then."""
    run(untouched)
    with database.admin_connection(untouched, untouched.database) as connection:
        connection.exec_driver_sql("UPDATE public.alembic_version SET version_num = '9999'")
    reported: list[Done] = []
    with pytest.raises(ReportedError, match="newer version: migration 9999") as refused:
        provision(untouched, reported.append)
    assert reported == []
    assert "the version that migrated it" in refused.value.cure


def test_provisioning_leaves_everything_a_service_needs(untouched: ProvisionSettings) -> None:
    reported = run(untouched)
    assert list(reported) == STEPS
    assert reported["database"].changed == (untouched.database,)
    assert reported["migrations"].changed == MIGRATIONS
    assert reported["topics"].changed == tuple(topic.within(untouched.namespace) for topic in ALL_TOPICS)
    assert set(reported["offsets"].changed) == {group.within(untouched.namespace) for group in GROUPS}
    assert len(reported["stock"].changed) == 50
    assert {point.offset for group in GROUPS for point in Admin(untouched).committed(group).values()} == {0}


def test_provisioning_twice_is_a_no_op(untouched: ProvisionSettings) -> None:
    run(untouched)
    ids = Admin(untouched).topic_ids(ALL_TOPICS)
    with database.admin_connection(untouched, untouched.database) as connection:
        connection.execute(sa.text("UPDATE inventory.stock SET available = available - 7 WHERE sku = 'tea'"))
        before = connection.exec_driver_sql("SELECT * FROM inventory.stock ORDER BY sku").all()
        again = run(untouched)
        after = connection.exec_driver_sql("SELECT * FROM inventory.stock ORDER BY sku").all()
    assert {step: done.changed for step, done in again.items()} == dict.fromkeys(STEPS, ())
    assert after == before
    assert Admin(untouched).topic_ids(ALL_TOPICS) == ids


def test_two_provisioners_take_turns(untouched: ProvisionSettings) -> None:
    """Aim: neither fails because the other provisions. Fault: both start at once. Must hold: one does each thing."""
    reports: list[dict[str, Done]] = []
    threads = [threading.Thread(target=lambda: reports.append(run(untouched))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(reports) == 2
    assert sorted(len(report["migrations"].changed) for report in reports) == [0, len(MIGRATIONS)]
    assert sorted(len(report["topics"].changed) for report in reports) == [0, len(ALL_TOPICS)]


def test_a_topic_with_too_few_partitions_is_named_with_the_command_that_adds_some(untouched: ProvisionSettings) -> None:
    Admin(untouched).create_topics([replace(ORDERS_CREATED, partitions=3)])
    with pytest.raises(ReportedError, match=r"orders\.created has 3 partitions, fewer than 8") as refused:
        run(untouched)
    assert refused.value.cure == "pipeline topics grow orders.created --partitions 8"


def test_options_of_a_standing_topic_follow_the_table(untouched: ProvisionSettings) -> None:
    admin = Admin(untouched)
    admin.create_topics([replace(ORDERS_CREATED, retention_ms=1000)])
    assert admin.create_topics([ORDERS_CREATED]) == ()
    wait_for(
        lambda: admin.options(ORDERS_CREATED)["retention.ms"] == str(ORDERS_CREATED.retention_ms),
        timeout_seconds=5,
        what="the broker has learnt of the new retention",
    )


def test_a_committed_offset_is_never_moved(pipeline: Pipeline) -> None:
    moved = Partition(ORDERS_CREATED.within(pipeline.namespace), 3)
    with member(pipeline) as consumer:
        consumer.commit({moved: CommitPoint(0, "kept")})
    assert pipeline.admin.write_first_offsets() == {group.within(pipeline.namespace): 0 for group in GROUPS}
    assert pipeline.admin.committed(INVENTORY)[moved] == CommitPoint(0, "kept")


def test_an_offset_in_an_open_transaction_is_waited_for(untouched: ProvisionSettings) -> None:
    """Aim: no order twice. Fault: a worker died between its transaction's offsets and their commit, then
    provisioning runs. Must hold: the offset that becomes visible later is the group's, not the earliest.
    """
    admin = Admin(untouched)
    admin.create_topics()
    source = ORDERS_CREATED.within(untouched.namespace)
    options = member_options(untouched, INVENTORY, slot=0) | {"auto.offset.reset": "earliest"}
    del options["group.instance.id"]  # so that closing leaves the group at once
    consumer = confluent_kafka.Consumer(options)
    consumer.subscribe([source])
    wait_for(lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == 8, timeout_seconds=15, what="joined")
    producer = confluent_kafka.Producer(writer_options(untouched, INVENTORY, slot=0))
    producer.init_transactions()
    producer.begin_transaction()
    pending = confluent_kafka.TopicPartition(source, 3, 5)
    producer.send_offsets_to_transaction([pending], consumer.consumer_group_metadata())
    consumer.close()
    provisioner = threading.Thread(target=admin.write_first_offsets)
    provisioner.start()
    provisioner.join(1)
    assert provisioner.is_alive()
    producer.commit_transaction()
    provisioner.join(10)
    committed = {partition.number: point.offset for partition, point in admin.committed(INVENTORY).items()}
    assert committed == {**dict.fromkeys(range(8), 0), 3: 5}


def test_a_live_group_that_has_its_offsets_is_left_alone(pipeline: Pipeline) -> None:
    with member(pipeline):
        assert pipeline.admin.write_first_offsets()[INVENTORY.within(pipeline.namespace)] == 0


def test_a_live_group_without_offsets_is_named(pipeline: Pipeline) -> None:
    wider = replace(ORDERS_CREATED, name="orders.created.later")
    pipeline.admin.create_topics([wider])
    try:
        with member(pipeline), pytest.raises(ReportedError, match="inventory has live members and no offset on 8"):
            pipeline.admin.write_first_offsets([wider])
    finally:
        pipeline.admin.delete_topics([wider])


def test_a_topic_that_the_broker_lists_a_moment_after_it_was_deleted_is_created(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red before: its options were set for 20 s, and then "the cluster is not ready"."""
    before = AdminCalls.metadata(pipeline.admin._calls)
    pipeline.admin.delete_topics([METRICS_PARTIALS])
    now = AdminCalls.metadata
    held_back = iter([before])
    monkeypatch.setattr(AdminCalls, "metadata", lambda calls: next(held_back, None) or now(calls))

    name = METRICS_PARTIALS.within(pipeline.namespace)
    assert pipeline.admin.create_topics([METRICS_PARTIALS, ORDERS_CREATED]) == (name,)
    assert pipeline.admin.partitions([METRICS_PARTIALS]) == {METRICS_PARTIALS: METRICS_PARTIALS.partitions}


def test_a_missing_password_is_refused_before_anything_connects(servers: Stack, tmp_path: Path) -> None:
    nowhere = servers.settings.model_copy(
        update={"role_secrets_dir": tmp_path, "postgres_admin_url": "postgresql://postgres@127.0.0.1:9/postgres"}
    )
    with pytest.raises(ConfigError, match=r"PIPELINE_ROLE_SECRETS_DIR: no password in .*/inventory_rw"):
        run(nowhere)


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("postgres_admin_url", "postgresql://postgres@127.0.0.1:9/postgres", "PostgreSQL at .*:9"),
        ("kafka_bootstrap", "127.0.0.1:9", "no broker answers at 127.0.0.1:9"),
        ("registry_url", "http://127.0.0.1:9", "schema registry does not answer at http://127.0.0.1:9"),
    ],
)
def test_a_server_that_does_not_answer_is_named(
    untouched: ProvisionSettings, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, complaint: str
) -> None:
    if setting == "kafka_bootstrap":  # the others' way leads past a broker that answers, perhaps not within a second
        monkeypatch.setattr("common.kafka.admin_calls.CONNECT_SECONDS", 1.0)
    with pytest.raises(FatalError, match=complaint) as error:
        run(untouched.model_copy(update={setting: value}))
    assert f"PIPELINE_{setting.upper()}" in error.value.cure


def test_group_that_the_broker_forgot_is_not_begun_again_once_orders_are_decided(pipeline: Pipeline) -> None:
    """From the earliest record on every decided order would be published a second time."""
    with pipeline.administer() as connection:
        connection.execute(
            sa.text(
                'INSERT INTO inventory.decision (order_id, verdict, event_id, event, topic, partition, "offset", skus,'
                " qtys, decided_at)"
                " VALUES (gen_random_uuid(), 1, gen_random_uuid(), '', :topic, 3, 41, '{}', '{}', now())"
            ),
            {"topic": ORDERS_CREATED.within(pipeline.namespace)},
        )
    pipeline.admin.delete_groups([INVENTORY])
    with pytest.raises(ReportedError, match=r"lost its offsets.*\[3\] up to 41") as refused:
        run(pipeline.settings)
    assert "pipeline offsets repair inventory" in refused.value.cure


def test_group_that_the_broker_forgot_is_not_begun_again_once_minutes_are_counted(pipeline: Pipeline) -> None:
    """From the earliest record on every order would be counted a second time."""
    write(pipeline, METRICS_PARTIALS, [(b"key", b"a count")])
    pipeline.admin.delete_groups([METRICS])
    with pytest.raises(
        ReportedError, match=r"metrics has no offset on 16 partitions, but .*metrics\.partials"
    ) as refused:
        run(pipeline.settings)
    assert "metrics_service repair" in refused.value.cure
