"""`python -m notification_service`: one worker in one slot. Wiring only."""

from contextlib import closing

from common import log, metrics
from common.config import load
from common.entry import run_process
from common.kafka.admin import Admin
from common.kafka.members import join, member_options
from common.kafka.schema_registry import open_codec
from common.postgres.engine import create_engine
from common.postgres.outage import DATABASE_ERRORS
from common.telemetry import OBSERVER, RUNTIME, serving_probes
from common.topics import NOTIFICATION, NOTIFICATION_SENT, Group
from notification_service.config import NotificationSettings
from notification_service.io.handler import SOURCES, NotificationHandler
from notification_service.io.progress_proof import ProgressProof
from notification_service.io.recipient_limit import RecipientLimit
from notification_service.io.senders import LogSender, Sender, SmtpSender
from onceloop.health import Health
from onceloop.kafka.acked_producer import AckedProducer
from onceloop.kafka.options import admin_options
from onceloop.kafka.topic_watch import TopicWatch
from onceloop.lifecycle import stop_signal
from onceloop.plain import OffsetsInGroup, run

BATCH_SESSION_SHARE = 0.8
"""How much of the group's session time-out a batch may take; the rest is for the last group of letters."""


def main() -> None:
    """Read settings, open what is needed, work until a signal."""
    settings = load(NotificationSettings)
    log.configure(settings, service="notification", slot=settings.slot)
    consuming = member_options(settings, NOTIFICATION, slot=settings.slot)
    state = Health()
    with (
        stop_signal() as stop,
        serving_probes(state, settings, metrics.of_worker("notification_")),
        closing(open_sender(settings)) as sender,
        closing(open_producer(settings)) as producer,
        closing(join(consuming, settings, NOTIFICATION, SOURCES)) as consumer,
    ):
        application = f"notification-{settings.slot}"
        engine = create_engine(settings, application=application, pool_size=1, autocommit=True)
        codec = open_codec(settings, (*SOURCES, NOTIFICATION_SENT))
        topic_ids = Admin(settings).topic_ids(SOURCES)
        proof = ProgressProof(
            engine=engine,
            codec=codec,
            namespace=settings.namespace,
            sources=SOURCES,
            options=admin_options(settings.kafka),
        )
        run(
            NotificationHandler(
                engine=engine,
                codec=codec,
                sender=sender,
                producer=producer,
                namespace=settings.namespace,
                mail_domain=settings.mail_domain,
                attempts_max=settings.smtp_attempts_max,
                limit=limit_of(settings),
                seconds_max=BATCH_SESSION_SHARE * consuming["session.timeout.ms"] / 1000,
                stop=stop,
            ),
            consumer,
            offsets=OffsetsInGroup(consumer, service="notification", topic_ids=topic_ids, prove=proof),
            stop=stop,
            health=state,
            watch=TopicWatch(settings.kafka, topic_ids),
            limit=sender.records_max,
            surroundings=DATABASE_ERRORS,
            runtime=RUNTIME,
        )


def open_producer(settings: NotificationSettings) -> AckedProducer:
    """Return what writes that a customer was notified, and dead letters."""
    client_id = Group(f"{NOTIFICATION.name}-{settings.slot}").within(settings.namespace)
    return AckedProducer(settings.kafka, client_id=client_id, observer=OBSERVER)


def open_sender(settings: NotificationSettings) -> Sender:
    """Return the channel that the settings name; nothing connects yet."""
    return SmtpSender(settings) if settings.notification_channel == "smtp" else LogSender()


def limit_of(settings: NotificationSettings) -> RecipientLimit | None:
    """Return how many mails a recipient gets; None for the log, where a line costs nothing."""
    if settings.notification_channel != "smtp":
        return None
    return RecipientLimit(mails_max=settings.smtp_mails_per_hour_max, customer_domain=settings.mail_customer_domain)


if __name__ == "__main__":
    run_process(main)
