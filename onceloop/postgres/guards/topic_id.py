"""Refuse to work on a topic that was recreated since the database first saw it: its coordinates mean other records."""

from collections.abc import Mapping
from functools import partial

from onceloop.kafka.topic_watch import recreated
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.guards.tables import GuardTables
from onceloop.postgres.retry import rerun


def refuse_another_topic(connection: HotConnection, tables: GuardTables, ids: Mapping[str, str]) -> None:
    """Compare the topics' ids with those first seen, and remember new ones. Raises ReportedError for another id."""
    for topic, topic_id in ids.items():
        remembered = rerun(partial(tables.remembered_topic_id, topic=topic, topic_id=topic_id), connection)
        if remembered != topic_id:
            raise recreated(topic, remembered, topic_id)
