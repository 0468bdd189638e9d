"""Say which promise a trial broke: facts in, findings out. Pure, and no code of the loop.

Each rule is one sentence of the guarantee. A finding names the record, what is on the topic, what is in the database,
and what usually causes it.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from onceloop.testing.facts import Facts, Fed, Published, Row, Written

SHOWN_BYTES = 160
SHOWN_ROWS = 8
WIDTH = 110
NOTHING = "nothing"


class Rule(StrEnum):
    """What must hold after every trial."""

    OUTCOME = "one outcome per key"
    EFFECTS = "effects once"
    BYTES = "bytes equal"
    OFFSETS = "offsets at the end"
    POISON = "only poison is put aside"
    ENDS = "every process ends as it should"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken rule. `cause`: what in a handler usually leads to it."""

    rule: Rule
    key: str
    what: str
    topic: str = NOTHING
    database: str = NOTHING
    cause: str = ""

    def __str__(self) -> str:
        parts = {
            "key": self.key,
            "what": self.what,
            "on the topic": self.topic,
            "in the database": self.database,
            "usual cause": self.cause,
        }
        lines = [f"broken rule: {self.rule}"]
        for name, text in parts.items():
            if text:
                lines += _wrapped(f"{name}:", text)
        return "\n".join(lines)


def judge(facts: Facts) -> list[Finding]:
    """Return what is broken, causes before consequences; nothing if all holds."""
    return [
        *_ends(facts),
        *_put_aside(facts),
        *_offsets(facts),
        *_effects(facts),
        *_publications(facts),
        *_outcomes(facts),
    ]


def _outcomes(facts: Facts) -> Iterator[Finding]:
    """Each record of the case has one decision, whichever of its copies owns it; no decision is of anything else."""
    by_place = {fed.place: fed for fed in facts.fed}
    keys = {row.key for row in facts.decided}
    owned = Counter(by_place[row.owner].item for row in facts.decided if row.owner in by_place and not row.refused)
    aside = {(letter.record.key, letter.record.value) for letter in facts.dead_letters}
    for fed in _firsts(facts.fed):
        if owned[fed.item] > 1:
            yield _two_outcomes(fed, facts)
        elif fed.name not in keys and (fed.key, fed.value) not in aside:
            yield Finding(
                rule=Rule.OUTCOME,
                key=shown(fed.name),
                what=f"the record {fed.place} has no decision",
                database="no row in `decided` with this key",
                cause="the record was not reached: see the rule about offsets, and the output of the process",
            )
    for row in facts.decided:
        if row.owner not in by_place or (by_place[row.owner].poison and not row.refused):
            yield Finding(
                rule=Rule.OUTCOME,
                key=shown(row.key),
                what="a decision of a record that the trial never wrote, or of poison",
                database=f"owner {row.owner}",
                cause="something else writes to the table `decided`, or to the input topics of the trial",
            )


def _two_outcomes(fed: Fed, facts: Facts) -> Finding:
    places = {each.place for each in facts.fed if each.item == fed.item}
    rows = [row for row in facts.decided if row.owner in places]
    return Finding(
        rule=Rule.OUTCOME,
        key=" and ".join(shown(row.key) for row in rows),
        what=f"one record and its copy have {len(rows)} decisions",
        topic=_listed(_found(facts.published, row.records) for row in rows),
        database=_listed(f"owner {row.owner}: {_listed(map(_record, row.records))}" for row in rows),
        cause="the key function gives the same record two keys: compute the key from the record's key or value alone,"
        " never from offset, partition, time or chance",
    )


def _publications(facts: Facts) -> Iterator[Finding]:
    """What is stored is on the topics, each record once and to the byte; nothing else is."""
    stored = Counter(record for row in facts.decided for record in row.records if not row.refused)
    found = Counter(each.record for each in facts.published)
    keys = {record: row.key for row in facts.decided for record in row.records}
    missing, surplus = stored - found, found - stored
    for record, times in surplus.items():
        if record in stored:
            yield Finding(
                rule=Rule.OUTCOME,
                key=shown(keys[record]),
                what=f"published {found[record]} times instead of {stored[record]}",
                topic=_found(facts.published, (record,)),
                database=_record(record),
                cause="a second program publishes for this group, or the handler publishes by itself what it returns",
            )
            continue
        twin = next((other for other in missing if (other.topic, other.key) == (record.topic, record.key)), None)
        if twin:
            missing -= Counter({twin: times})
        yield Finding(
            rule=Rule.BYTES,
            key=shown(keys[twin]) if twin else shown(record.key),
            what="what is published is not what is stored" if twin else f"published {times} times and stored nowhere",
            topic=_found(facts.published, (record,)),
            database=_record(twin) if twin else "no decision holds this record",
            cause="the handler publishes by itself, with a producer of its own: return the records instead, so that"
            " they are stored with the decision and become visible together with it",
        )
    for record in missing:
        yield Finding(
            rule=Rule.OUTCOME,
            key=shown(keys[record]),
            what="decided, but never published",
            database=_record(record),
            cause="the process never came so far: see its output" if not facts.open_transactions else _hanging(facts),
        )


def _hanging(facts: Facts) -> str:
    return f"a transaction is still open on {', '.join(facts.open_transactions)}: readers see nothing behind it"


def _effects(facts: Facts) -> Iterator[Finding]:
    found, expected = Counter(facts.effects), Counter(facts.expected)
    if found == expected:
        return
    yield Finding(
        rule=Rule.EFFECTS,
        key="see the rows",
        what=f"the effects differ from those of {facts.expected_by}",
        topic="not compared",
        database=f"found, not expected: {_rows(found - expected)}; expected, not found: {_rows(expected - found)}",
        cause="the handler has effects outside the transaction that it is given: a connection of its own, a file, a"
        " request. They stay when the transaction is rolled back and the record is handled again. Write through `db`"
        " alone. Or the effects depend on time, chance, or the order of records of different partitions: then"
        " `effects` must leave that out",
    )


def _offsets(facts: Facts) -> Iterator[Finding]:
    for at, end in sorted(facts.ends.items()):
        offset = facts.offsets.get(at, -1)
        if offset == end:
            continue
        waiting = [fed for fed in facts.fed if fed.place[:2] == at and fed.place.offset >= max(offset, 0)]
        yield Finding(
            rule=Rule.OFFSETS,
            key=shown(waiting[0].name or waiting[0].key) if waiting else f"{at[0]}[{at[1]}]",
            what=f"{at[0]}[{at[1]}] ends at {end}; the group stands at {offset}"
            f" after {facts.waited_seconds:.0f} s: {len(waiting)} records are unread",
            topic=f"next: {shown(waiting[0].value)}" if waiting else NOTHING,
            database="see `decided`",
            cause="the handler does not come back from this record or one soon behind it (a wait, a loop that tries"
            " again for ever), or ends its process; let errors leave the handler, and the loop will try again",
        )


def _put_aside(facts: Facts) -> Iterator[Finding]:
    poison = Counter((fed.key, fed.value) for fed in facts.fed if fed.poison)
    letters = Counter((letter.record.key, letter.record.value) for letter in facts.dead_letters)
    reasons = {(letter.record.key, letter.record.value): letter for letter in facts.dead_letters}
    for (key, value), times in (letters - poison).items():
        letter = reasons[key, value]
        expected = poison[key, value]
        yield Finding(
            rule=Rule.POISON,
            key=shown(key),
            what=f"put aside {expected + times} times instead of once"
            if expected
            else "a good record was put aside as poison",
            topic=f"{letter.place}: {shown(value)}",
            database="refused, if it is there",
            cause=f"the handler refused it, or raised, again and again: {letter.reason}",
        )
    for key, value in poison - letters:
        yield Finding(
            rule=Rule.POISON,
            key=shown(key),
            what="poison that is not on the dead-letter topic",
            topic=NOTHING,
            database=f"the record: {shown(value)}",
            cause="the handler takes what the case calls poison: see `poison=`",
        )


def _ends(facts: Facts) -> Iterator[Finding]:
    for end in facts.ended:
        if end.code not in end.expected:
            yield Finding(
                rule=Rule.ENDS,
                key=end.name,
                what=f"ended with {end.code} instead of {' or '.join(map(str, sorted(end.expected)))}",
                topic="not compared",
                database="not compared",
                cause=f"the last it said:\n{end.last_lines}",
            )


def _firsts(fed: Iterable[Fed]) -> Iterator[Fed]:
    seen: set[int] = set()
    for each in fed:
        if not each.poison and each.item not in seen:
            seen.add(each.item)
            yield each


def _found(published: Iterable[Published], records: Iterable[Written]) -> str:
    wanted = set(records)
    return _listed(f"{each.place}: {shown(each.record.value)}" for each in published if each.record in wanted)


def _record(record: Written) -> str:
    return f"{record.topic}, key {shown(record.key)}: {shown(record.value)}"


def _rows(rows: Counter[Row]) -> str:
    listed = [f"{row!r}" + (f" ({times} times)" if times > 1 else "") for row, times in rows.items()]
    more = f" and {len(listed) - SHOWN_ROWS} more" if len(listed) > SHOWN_ROWS else ""
    return ", ".join(listed[:SHOWN_ROWS]) + more or NOTHING


def _listed(parts: Iterable[str]) -> str:
    return " and ".join(parts) or NOTHING


def _wrapped(name: str, text: str) -> list[str]:
    """Return a named part in lines of a fair length; lines that the text has stay."""
    first, *rest = text.splitlines() or [""]
    head, indent = f"  {name:<17}", " " * 19
    return [
        *textwrap.wrap(head + first, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False),
        *(indent + line for line in rest),
    ]


def shown(data: bytes | None) -> str:
    """Return bytes for people: as text where they are some, cut where they are long."""
    if data is None:
        return "none"
    cut = data[:SHOWN_BYTES]
    try:
        text = repr(cut.decode())
    except UnicodeDecodeError:
        text = repr(cut)
    return text if len(data) <= SHOWN_BYTES else f"{text}... ({len(data)} bytes)"
