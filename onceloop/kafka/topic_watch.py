"""Watch whether topics are still those that a process began with; a recreated topic repeats coordinates.

A consumer does not notice: it goes on at its old offset in the new topic and passes over what lies below, in silence.
The broker is asked in the background, so that watching never makes a loop wait.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from common.config import KafkaSettings
from onceloop.errors import ReportedError
from onceloop.kafka.options import admin_options

ASK_EVERY_SECONDS = 2.0
REQUEST_SECONDS = 5.0


class TopicWatch:
    """Knows the topics of a process: their names on the cluster, and the ids that they must have."""

    def __init__(self, settings: KafkaSettings, ids: Mapping[str, str]) -> None:
        self._ids = ids
        self._client = AdminClient({**admin_options(settings), "log_level": 2})
        self._asked = time.monotonic()
        self._answers: dict[str, Future[Any]] = {}

    def __call__(self) -> None:
        """Read the answers that are there, ask again when it is time; neither waits.

        Raises ReportedError once a topic has another id. One that is deleted, or a broker that is away, says nothing.
        """
        for name in [name for name, answer in self._answers.items() if answer.done()]:
            found = _id_in(self._answers.pop(name))
            if found not in {None, self._ids[name]}:
                raise recreated(name, self._ids[name], str(found))
        if not self._answers and time.monotonic() - self._asked >= ASK_EVERY_SECONDS:
            self._asked = time.monotonic()
            self._answers = self._client.describe_topics(
                TopicCollection(list(self._ids)), request_timeout=REQUEST_SECONDS
            )


def recreated(topic: str, remembered: str, found: str) -> ReportedError:
    """Return what ends a process whose topic was deleted and created again; no restart cures it."""
    return ReportedError(
        f"topic {topic} was recreated ({remembered}, now {found}): the stored offsets belong to the old one",
        cure="keep topics and tables as they are, and go on by docs/runbook.md, `A topic was recreated`",
    )


def _id_in(answer: Future[Any]) -> str | None:
    try:
        return str(answer.result(0).topic_id)
    except KafkaException:
        return None
