"""One real notification worker on a real broker and database: who is notified of what, how often; what is published."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
import sqlalchemy as sa

from chaos.run.plan import Action, Arm, read_evidence
from common.events.inventory import InventoryReserved
from common.events.notifications import Kind, NotificationSent, sent_event_id
from common.topics import (
    INVENTORY_RESERVED,
    NOTIFICATION,
    NOTIFICATION_SENT,
    dead_letter_topic,
)
from tests.mail import MailServer, serving
from tests.notifications import (
    armed,
    by_mail,
    committed,
    ledger,
    make_failed,
    make_reserved,
    sent,
    start_worker,
    wait_published,
    write_outcomes,
    written,
)
from tests.pipeline import Pipeline
from tests.records import codec_of, read, wait_for, write
from tests.refusals import REFUSED, refuse_user

DEAD_LETTERS = dead_letter_topic(INVENTORY_RESERVED, NOTIFICATION)


@pytest.fixture
def mail_port(pipeline: Pipeline) -> int:
    return pipeline.processes.free_port()


def test_each_outcome_is_notified_once_and_published(pipeline: Pipeline) -> None:
    reserved, failed = make_reserved(), make_failed("bob")
    worker = start_worker(pipeline).wait_ready()
    write_outcomes(pipeline, reserved, failed)
    wait_published(pipeline, reserved, failed)

    rows = ledger(pipeline)
    assert {order_id: (row.kind, row.state, row.attempts) for order_id, row in rows.items()} == {
        reserved.order_id: ("order_confirmed", "sent", 1),
        failed.order_id: ("out_of_stock", "sent", 1),
    }
    assert (written(worker, reserved), written(worker, failed)) == (1, 1)
    row = rows[reserved.order_id]
    assert row.message_id == f"<{reserved.event_id}.log@shop.example>"
    (seen,) = [seen for seen in read(pipeline, NOTIFICATION_SENT) if seen.key == b"ada"]
    assert codec_of(pipeline).decode(NotificationSent, seen.value) == NotificationSent(
        event_id=sent_event_id(reserved.event_id, channel="log"),
        order_id=reserved.order_id,
        user_id="ada",
        kind=Kind.ORDER_CONFIRMED,
        channel="log",
        sent_at_ms=int(row.sent_at.timestamp() * 1000),
    )
    assert seen.headers["ce_type"] == b"notification.sent"
    assert seen.headers["origin_topic"] == INVENTORY_RESERVED.within(pipeline.namespace).encode()


def test_outcome_that_comes_again_is_not_notified_again_but_published_alike(pipeline: Pipeline) -> None:
    reserved = make_reserved()
    worker = start_worker(pipeline).wait_ready()
    for copies in (1, 2, 3):
        write_outcomes(pipeline, reserved)
        wait_for(lambda copies=copies: len(sent(pipeline)) == copies, what=f"{copies} events")  # type: ignore[misc]
    assert written(worker, reserved) == 1
    assert len(set(sent(pipeline))) == 1
    assert ledger(pipeline)[reserved.order_id].attempts == 1


def test_notifications_of_a_user_keep_the_order_of_the_outcomes(pipeline: Pipeline) -> None:
    outcomes = [make_reserved(f"user {number % 7}") for number in range(700)]
    write_outcomes(pipeline, *outcomes)
    start_worker(pipeline)
    wait_for(lambda: len(sent(pipeline)) >= 700, what="all published")
    assert len(sent(pipeline)) == 700
    by_user: dict[str, list[str]] = {}
    for event in sent(pipeline):
        by_user.setdefault(event.user_id, []).append(event.order_id)
    for user_id, notified in by_user.items():
        assert notified == [outcome.order_id for outcome in outcomes if outcome.user_id == user_id]


def test_records_of_an_aborted_transaction_are_never_notified(pipeline: Pipeline) -> None:
    phantom, real = make_reserved("phantom"), make_reserved("real")
    worker = start_worker(pipeline).wait_ready()
    codec, topic = codec_of(pipeline), INVENTORY_RESERVED.within(pipeline.namespace)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": pipeline.kafka.kafka_bootstrap, "transactional.id": f"{pipeline.namespace}.aborts"}
    )
    producer.init_transactions(10)
    for outcome, end in ((phantom, producer.abort_transaction), (real, producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, codec.encode(outcome), b"same key", partition=0)
        producer.flush(10)
        end(10)
    assert phantom.event_id in {
        codec.decode(InventoryReserved, seen.value).event_id
        for seen in read(pipeline, INVENTORY_RESERVED, isolation="read_uncommitted")
    }
    wait_published(pipeline, real)
    assert phantom.order_id not in ledger(pipeline)
    assert written(worker, phantom) == 0


def test_poison_goes_to_the_dead_letters_and_the_partition_moves_on(pipeline: Pipeline) -> None:
    codec = codec_of(pipeline)
    before, behind = make_reserved(), make_reserved()
    impossible = dataclasses.replace(make_reserved(), user_id="ada\r\nBcc: eve@evil.example")
    poison = [b"\x00garbage!", b"\x07\x00\x00\x00\x01x", b"\x00\xff\xff\xff\xffx", codec.encode(impossible), None]
    records = [codec.encode(before), *poison, codec.encode(behind)]
    write(pipeline, INVENTORY_RESERVED, ((b"key", value) for value in records), partition=3)
    start_worker(pipeline)
    wait_published(pipeline, before, behind)
    wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == len(records), what="the committed offset")

    letters = read(pipeline, DEAD_LETTERS)
    assert [(letter.key, letter.value) for letter in letters] == [(b"key", value) for value in poison]
    assert [letter.headers["dlq_offset"] for letter in letters] == [b"1", b"2", b"3", b"4", b"5"]
    assert [letter.headers["dlq_error_class"] for letter in letters] == [
        *(b"schema", b"magic", b"schema", b"content", b"frame")
    ]
    assert {letter.headers["dlq_topic"] for letter in letters} == {
        INVENTORY_RESERVED.within(pipeline.namespace).encode()
    }
    assert set(ledger(pipeline)) == {before.order_id, behind.order_id}


def test_poison_of_the_largest_size_fits_into_the_dead_letters(pipeline: Pipeline) -> None:
    poison, behind = b"\xff" * (INVENTORY_RESERVED.message_bytes_max - 1024), make_reserved()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": pipeline.kafka.kafka_bootstrap, "message.max.bytes": 2_000_000}
    )
    producer.produce(INVENTORY_RESERVED.within(pipeline.namespace), poison, partition=0)
    assert producer.flush(20) == 0
    write(pipeline, INVENTORY_RESERVED, [(b"ada", codec_of(pipeline).encode(behind))], partition=0)
    start_worker(pipeline)
    wait_published(pipeline, behind)
    assert [letter.value for letter in read(pipeline, DEAD_LETTERS)] == [poison]


def test_mail_server_that_is_away_is_waited_for(pipeline: Pipeline, mail_port: int) -> None:
    server, first, second = MailServer(), make_reserved("ada"), make_failed("bob@home.example")
    worker = start_worker(pipeline, env=by_mail(mail_port)).wait_ready()
    write_outcomes(pipeline, first, second)
    wait_for(lambda: "work.paused" in worker.output(), what="the pause")
    assert not sent(pipeline)
    with serving(server, mail_port):
        wait_published(pipeline, first, second)
    assert sorted(mail.recipients for mail in server.mails) == [("ada@customers.example",), ("bob@home.example",)]
    worker.wait_ready()


def test_refused_recipient_becomes_a_dead_letter_and_blocks_no_other(pipeline: Pipeline, mail_port: int) -> None:
    server, outcomes = MailServer(), [make_reserved(user) for user in ("ada", "eve", "bob")]
    server.replies["eve@customers.example"] = "550 5.1.1 no such mailbox"
    with serving(server, mail_port):
        write_outcomes(pipeline, *outcomes, partition=5)
        start_worker(pipeline, env=by_mail(mail_port))
        wait_published(pipeline, outcomes[0], outcomes[2])
        wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == 3, what="the committed offset")
    (letter,) = read(pipeline, DEAD_LETTERS)
    assert letter.value == codec_of(pipeline).encode(outcomes[1])
    assert (letter.headers["dlq_error_class"], letter.headers["dlq_reason"]) == (b"recipient_refused", b"reply 550")
    assert ledger(pipeline)[outcomes[1].order_id].state == "claimed"
    assert {event.user_id for event in sent(pipeline)} == {"ada", "bob"}


def test_user_id_that_no_mail_can_name_becomes_a_dead_letter_and_blocks_no_other(
    pipeline: Pipeline, mail_port: int
) -> None:
    """Python's mail library raises IndexError for it: the process ended at each start, and no customer was notified."""
    server, outcomes = MailServer(), [make_reserved(user) for user in ("ada", "=?us-ascii?q??=", "bob")]
    with serving(server, mail_port):
        write_outcomes(pipeline, *outcomes, partition=5)
        worker = start_worker(pipeline, env=by_mail(mail_port))
        wait_published(pipeline, outcomes[0], outcomes[2])
        wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == 3, what="the committed offset")
        assert worker.exit_code is None
    (letter,) = read(pipeline, DEAD_LETTERS)
    assert letter.value == codec_of(pipeline).encode(outcomes[1])
    assert letter.headers["dlq_error_class"] == b"recipient_refused"
    assert {event.user_id for event in sent(pipeline)} == {"ada", "bob"}


def test_outcome_that_the_ledger_cannot_take_becomes_a_dead_letter_and_blocks_no_other(pipeline: Pipeline) -> None:
    """PostgreSQL rejects a value of one record for good: it used to end the process, again and again."""
    refuse_user(pipeline, "notification.ledger")
    outcomes = [make_reserved(user) for user in ("ada", REFUSED, "bob", "cyd")]
    worker = start_worker(pipeline).wait_ready()
    write_outcomes(pipeline, *outcomes, partition=5)
    wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == 4 or worker.exit_code is not None, what="the offset")
    assert worker.exit_code is None, worker.output()
    (letter,) = read(pipeline, DEAD_LETTERS)
    assert letter.value == codec_of(pipeline).encode(outcomes[1])
    assert letter.headers["dlq_error_class"] == b"database"
    assert "record.rejected" in worker.output()
    assert {event.user_id for event in sent(pipeline)} == {"ada", "bob", "cyd"}
    assert [written(worker, outcome) for outcome in outcomes] == [1, 0, 1, 1]


def test_recipient_put_off_for_ever_becomes_a_dead_letter_after_all_others_are_notified(
    pipeline: Pipeline, mail_port: int
) -> None:
    server, full, others = MailServer(), make_reserved("full"), [make_reserved("ada"), make_reserved("bob")]
    server.replies["full@customers.example"] = "452 4.2.2 mailbox full"
    with serving(server, mail_port):
        write_outcomes(pipeline, full, *others, partition=5)
        start_worker(pipeline, env={**by_mail(mail_port), "PIPELINE_SMTP_ATTEMPTS_MAX": "2"})
        wait_published(pipeline, *others)
        wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == 3, what="the committed offset")
    (letter,) = read(pipeline, DEAD_LETTERS)
    assert (letter.headers["dlq_error_class"], letter.headers["dlq_reason"]) == (b"recipient_put_off", b"reply 452")
    assert server.tried.count("full@customers.example") == 2
    assert len(server.mails) == len(others)


def test_recipient_put_off_for_a_while_is_notified_in_the_end(pipeline: Pipeline, mail_port: int) -> None:
    server, greylisted = MailServer(), make_reserved("ada")
    server.replies["ada@customers.example"] = "450 4.7.1 greylisted"
    with serving(server, mail_port):
        worker = start_worker(pipeline, env=by_mail(mail_port)).wait_ready()
        write_outcomes(pipeline, greylisted)
        wait_for(lambda: "work.paused" in worker.output(), what="the pause")
        del server.replies["ada@customers.example"]
        wait_published(pipeline, greylisted)
    assert len(server.mails) == 1
    assert not read(pipeline, DEAD_LETTERS)


@pytest.mark.parametrize(
    ("point", "mails"),
    [
        *(("taken", 1), ("ledger.claimed", 1), ("before_send", 1)),
        *(("sent", 2), ("ledger.done", 1), ("offset.committed", 1)),
    ],
)
def test_kill_at_any_point_loses_no_mail_and_repeats_only_the_one_at_sent(
    pipeline: Pipeline, mail_port: int, tmp_path: Path, point: str, mails: int
) -> None:
    """Aim: at least one mail per event, and one alone unless the kill came between sending and marking.

    Fault: SIGKILL at each point of the second of three mails' way. What repeats carries the same Message-ID.
    """
    server, outcomes = MailServer(), [make_reserved(user) for user in ("ada", "bob", "eve")]
    hit = 2 if point in {"before_send", "sent", "ledger.done"} else 1
    arms = armed(tmp_path, Arm(point=f"notification:{point}", action=Action.KILL, hit=hit))
    with serving(server, mail_port):
        write_outcomes(pipeline, *outcomes, partition=5)
        worker = start_worker(pipeline, "chaos.run.launch", env={**by_mail(mail_port), **arms})
        assert worker.wait(timeout_seconds=20) == -9
        start_worker(pipeline, env=by_mail(mail_port))
        wait_published(pipeline, *outcomes)
        wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == 3, what="the committed offset")
    assert [fired.point for fired in read_evidence(Path(arms["CHAOS_EVIDENCE"]))] == [f"notification:{point}"]
    assert [len(server.to(f"{user}@customers.example")) for user in ("ada", "bob", "eve")] == [1, mails, 1]
    assert len({mail.message_id for mail in server.mails}) == 3
    assert {row.state for row in ledger(pipeline).values()} == {"sent"}


def test_worker_that_wakes_up_after_a_takeover_repeats_one_mail_at_most(
    pipeline: Pipeline, mail_port: int, tmp_path: Path
) -> None:
    """Aim: a zombie does not send its whole batch again. Fault: SIGSTOP before the second of five mails, until another
    worker has notified them all; then SIGCONT."""
    server, outcomes = MailServer(), [make_reserved(f"user{number}") for number in range(5)]
    arms = armed(tmp_path, Arm(point="notification:before_send", action=Action.STOP, hit=2))
    impatient = {"PIPELINE_KAFKA_CONSUMER_OPTIONS": '{"session.timeout.ms": 2500, "heartbeat.interval.ms": 500}'}
    with serving(server, mail_port):
        write_outcomes(pipeline, *outcomes, partition=5)
        zombie = start_worker(pipeline, "chaos.run.launch", env={**by_mail(mail_port), **impatient, **arms})
        wait_for(lambda: bool(read_evidence(Path(arms["CHAOS_EVIDENCE"]))), what="the stop")
        start_worker(pipeline, env={**by_mail(mail_port), **impatient, "PIPELINE_SLOT": "1"})
        wait_published(pipeline, *outcomes)
        zombie.thaw()
        wait_for(lambda: "work.paused" in zombie.output(), what="the zombie's end of its batch")
        more = make_reserved("more")
        write_outcomes(pipeline, more)
        wait_published(pipeline, more)
        zombie.wait_ready()
    notified = [len(server.to(f"{outcome.user_id}@customers.example")) for outcome in outcomes]
    assert notified == [1, 2, 1, 1, 1]
    assert len({mail.message_id for mail in server.mails}) == 6
    assert len(set(sent(pipeline))) == 6


@pytest.fixture
def without_database(pipeline: Pipeline) -> Iterator[Any]:
    """Return two functions: the database turns the service away, and takes it again."""

    def limit(connections: int) -> None:
        name = pipeline.settings.database
        with pipeline.administer() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} CONNECTION LIMIT {connections}")
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'notification_rw'"
                    " AND datname = current_database()"
                )
            )

    yield lambda: limit(0), lambda: limit(-1)
    limit(-1)


def test_database_that_is_away_is_waited_for_and_nothing_is_dead_lettered(
    pipeline: Pipeline, without_database: Any
) -> None:
    take_away, bring_back = without_database
    first, second = make_reserved(), make_reserved()
    worker = start_worker(pipeline).wait_ready()
    write_outcomes(pipeline, first)
    wait_published(pipeline, first)
    take_away()
    write_outcomes(pipeline, second)
    wait_for(lambda: "work.paused" in worker.output(), what="the pause")
    bring_back()
    wait_published(pipeline, second)
    assert (written(worker, first), written(worker, second)) == (1, 1)
    assert not read(pipeline, DEAD_LETTERS)


def test_database_that_goes_away_between_mail_and_mark_repeats_no_mail(
    pipeline: Pipeline, mail_port: int, without_database: Any
) -> None:
    """Aim: only a crash may repeat a mail. Fault: PostgreSQL is gone when the accepted mail shall be marked."""
    take_away, bring_back = without_database
    server, outcome = MailServer(), make_reserved()
    with serving(server, mail_port):
        worker = start_worker(pipeline, env=by_mail(mail_port)).wait_ready()
        server.hold()
        write_outcomes(pipeline, outcome)
        wait_for(lambda: len(server.mails) == 1, what="the mail")
        take_away()
        server.release()
        wait_for(lambda: "work.paused" in worker.output(), what="the pause")
        bring_back()
        wait_published(pipeline, outcome)
    assert len(server.mails) == 1


def test_graceful_stop_in_the_middle_of_a_batch_is_quick_and_loses_nothing(pipeline: Pipeline, mail_port: int) -> None:
    server, outcomes = MailServer(), [make_reserved(f"user{number}") for number in range(15)]
    server.hold()
    with serving(server, mail_port):
        write_outcomes(pipeline, *outcomes, partition=5)
        worker = start_worker(pipeline, env=by_mail(mail_port))
        wait_for(lambda: len(server.mails) == 1, what="the first mail")
        os.kill(worker.pid, signal.SIGTERM)
        server.release()
        assert worker.wait(timeout_seconds=5) == 0
        assert len(server.mails) < len(outcomes)
        start_worker(pipeline, env=by_mail(mail_port))
        wait_published(pipeline, *outcomes)
    assert sorted(len(server.to(f"{outcome.user_id}@customers.example")) for outcome in outcomes) == [1] * 15


def test_no_address_reaches_the_log(pipeline: Pipeline, mail_port: int) -> None:
    server, outcomes = MailServer(), [make_reserved("ada@home.example"), make_reserved("eve@home.example")]
    server.replies["eve@home.example"] = "550 5.1.1 no such mailbox eve@home.example"
    with serving(server, mail_port):
        worker = start_worker(pipeline, env={**by_mail(mail_port), "PIPELINE_LOG_LEVEL": "debug"})
        write_outcomes(pipeline, *outcomes)
        wait_published(pipeline, outcomes[0])
        wait_for(lambda: bool(read(pipeline, DEAD_LETTERS)), what="the dead letter")
    assert "home.example" not in worker.output()
