"""Twelve bugs that a pipeline like this one could have, as edits of its source; none of them stands in the product."""

from collections.abc import Sequence

from chaos.bugs.planting import Bug, Edit
from onceloop.errors import UsageError

_LOOP = "onceloop.transactional"
_PRODUCER = "onceloop.kafka.transactional_producer"
_OPTIONS = "onceloop.kafka.options"
_STEP = "inventory_service.io.step"
_STORE = "inventory_service.io.decision_store"
_MEMBERS = "common.kafka.members"

BUGS: Sequence[Bug] = (
    Bug(
        "offsets-behind-the-commit",
        "the consumer commits the offsets, once the Kafka transaction has committed without them",
        "S5",
        (
            Edit(
                _PRODUCER,
                """
                self._send_offsets(plan, group_metadata)
""",
                """
                del group_metadata
""",
            ),
            Edit(
                _LOOP,
                """
    def _settle(self, plan: Publish) -> None:
""",
                """
    def _settle(self, plan: Publish) -> None:
        self._consumer.commit(plan.offsets)
""",
            ),
        ),
    ),
    Bug(
        "reads-uncommitted",
        "a reader takes records for facts whose transaction is still open",
        "S9",
        (
            Edit(_OPTIONS, '"isolation.level": "read_committed",', '"isolation.level": "read_uncommitted",'),
            Edit(_OPTIONS, '"isolation.level", "read_committed",', '"isolation.level", "read_uncommitted",'),
        ),
    ),
    Bug(
        "random-transactional-id",
        "each start takes a new transactional.id, so no process ends what a dead one left open",
        "L1",
        (
            Edit(
                _MEMBERS,
                """
    transactional_id = f"{group.within(settings.namespace)}-{slot}"
""",
                """
    transactional_id = f"{group.within(settings.namespace)}-{slot}-{__import__('uuid').uuid4()}"
""",
            ),
        ),
    ),
    Bug(
        "no-look-up",
        "earlier decisions are not looked up; the insert skips what stands there, the decrement does not",
        "S6",
        (
            Edit(_STORE, "known={row[0]: _decision(*row) for row in decisions.fetchall()}", "known={}"),
            Edit(
                _STORE,
                """skus, qtys, decided_at_ms, user_id, turn)
\"\"\"
""",
                """skus, qtys, decided_at_ms, user_id, turn)
ON CONFLICT DO NOTHING
\"\"\"
""",
            ),
        ),
    ),
    Bug(
        "kafka-first",
        "the decisions are recorded once the events are out",
        "S7",
        (
            Edit(
                _STEP,
                """
        with self._decisions.recording(connection, new=new, replayed=snapshot.known, taken=taken):
            answers =""",
                """
        self._unrecorded = {"new": new, "replayed": snapshot.known, "taken": taken}
        if True:
            answers =""",
            ),
            Edit(
                _STEP,
                """
        self._guards.note(published.offsets)
        self._count()
""",
                """
        def record(connection):
            with self._decisions.recording(connection, **self._unrecorded):
                pass

        rerun(record, self._connection)
        self._guards.note(published.offsets)
        self._count()
""",
            ),
        ),
    ),
    Bug(
        "event-built-anew",
        "a replay builds the event again, instead of sending the bytes that were stored",
        "S7",
        (
            Edit(
                _STEP,
                """
        known = {**snapshot.known, **{row""",
                """
        from inventory_service.core.rule import Reserved

        for arrival in arrivals:
            row = snapshot.known.get(arrival.order.order_id)
            if row is not None and row.reserved:
                outcome = Reserved(row.order_id, arrival.order.lines)
                event = self._events.encode(arrival, outcome, row.event_id, self._clock.time_ns() // 1_000_000)
                snapshot.known[row.order_id] = row._replace(event=event)
        known = {**snapshot.known, **{row""",
            ),
        ),
    ),
    Bug(
        "no-taint",
        "a producer goes on although the answer to its last commit was lost",
        "S5",
        (
            Edit(
                _PRODUCER,
                """
        return self._taint.cause
""",
                """
        return ""
""",
            ),
        ),
    ),
    Bug(
        "key-checked-then-stored",
        "a key is looked up in one transaction and stored in another, and whose row stands is never checked",
        "S4",
        (
            Edit(
                "order_service.io.key_store",
                """
                if _insert(connection, offered):
                    return offered
                if (standing := _read(connection, offered.user_id, offered.key)) is not None:
                    return standing
""",
                """
                if (standing := _read(connection, offered.user_id, offered.key)) is not None:
                    return standing
                _insert(connection, offered)
                return offered
""",
            ),
        ),
    ),
    Bug(
        "blind-decrement",
        "stock is taken by what was read before, and no constraint stops it below zero",
        "S6",
        (),
        ("ALTER TABLE inventory.stock DROP CONSTRAINT stock_available_ge_0",),
    ),
    Bug(
        "dead-letter-outside",
        "dead letters are written outside the transaction that moves their offset",
        "S11",
        (
            Edit(
                _PRODUCER,
                """
        self._producer = runtime.producer({**options,""",
                """
        plain = {name: value for name, value in options.items() if not name.startswith("transaction")}
        self._plain = runtime.producer(plain)
        self._producer = runtime.producer({**options,""",
            ),
            Edit(
                _PRODUCER,
                """
            self._send(record)
            if record.is_dead_letter:
                self._point("dlq.produced")
""",
                """
            if record.is_dead_letter:
                self._plain.produce(record.topic, record.value, record.key, headers=list(record.headers))
                self._plain.flush(SLICE_SECONDS)
                self._point("dlq.produced")
            else:
                self._send(record)
""",
            ),
        ),
    ),
    Bug(
        "accepted-too-early",
        "the API answers 202 before the broker has acknowledged the order",
        "S1",
        (
            Edit(
                "order_service.io.intake",
                "delivery.wait(min(ACK_SECONDS_MAX, max(deadline - time.monotonic(), 0.0)))",
                "del delivery, deadline",
            ),
        ),
    ),
    Bug(
        "minutes-forgotten",
        "no watermark and no window's end stand beside the offsets: a start from there takes closed minutes for open",
        "S12",
        (
            Edit(
                "metrics_service.core.windows",
                '"w": self.watermark_ms, "e": self.closed_to_ms}',
                '"w": 0, "e": 0}',
            ),
            Edit(
                "metrics_service.io.windows_step",
                "        self._proof.give(self._behind)\n        now_ms",
                "        now_ms",
            ),
        ),
    ),
)
"""What each is set against stands in `chaos.trials`."""


def named(name: str) -> Bug:
    """Return the bug of this name. Raises UsageError with those that there are."""
    for bug in BUGS:
        if bug.name == name:
            return bug
    raise UsageError(f"no planted bug is called {name!r}", cure=f"take one of {', '.join(b.name for b in BUGS)}")
