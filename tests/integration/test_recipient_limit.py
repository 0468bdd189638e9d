"""One mailbox gets so many mails in an hour, no matter who orders in its name."""

from common.topics import INVENTORY_RESERVED, NOTIFICATION, dead_letter_topic
from tests.mail import MailServer, serving
from tests.notifications import by_mail, committed, ledger, make_reserved, start_worker, wait_published, write_outcomes
from tests.pipeline import Pipeline
from tests.records import codec_of, read, wait_for

DEAD_LETTERS = dead_letter_topic(INVENTORY_RESERVED, NOTIFICATION)


def test_mailbox_gets_so_many_mails_in_an_hour_however_it_is_named_and_blocks_no_other(pipeline: Pipeline) -> None:
    """Anybody may place orders for any user: a thousand of them were a thousand mails."""
    mail_port = pipeline.processes.free_port()
    spellings = ("ada", "ada@customers.example", "Ada", "ADA@Customers.example")
    server, outcomes = MailServer(), [make_reserved(user) for user in (*spellings, "bob")]
    env = {**by_mail(mail_port), "PIPELINE_SMTP_MAILS_PER_HOUR_MAX": "2"}
    with serving(server, mail_port):
        write_outcomes(pipeline, *outcomes[:1], partition=5)
        first = start_worker(pipeline, env=env)
        wait_published(pipeline, outcomes[0])
        first.kill()  # what was sent is known from the ledger, not from memory
        write_outcomes(pipeline, *outcomes[1:], partition=5)
        start_worker(pipeline, env=env)
        wait_for(lambda: committed(pipeline, INVENTORY_RESERVED) == 5, what="the committed offset")
    letters = read(pipeline, DEAD_LETTERS)
    assert [letter.value for letter in letters] == [codec_of(pipeline).encode(each) for each in outcomes[2:4]]
    assert {letter.headers["dlq_error_class"] for letter in letters} == {b"recipient_over_limit"}
    assert [ledger(pipeline)[each.order_id].state for each in outcomes] == [
        "sent",
        "sent",
        "claimed",
        "claimed",
        "sent",
    ]
    assert len(server.mails) == 3
