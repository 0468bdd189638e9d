"""What a run leaves in files is read back as it was written, and logs are searched for what they must not hold."""

import json
from pathlib import Path

import pytest

from audit.readers.evidence import Evidence
from audit.readers.http_history import Answer, HistoryWriter, read_history, short_digest
from audit.readers.logs import search
from audit.readers.snapshots import read_snapshots, snapshot_line
from audit.readers.written import WrittenWriter, read_written
from audit.terms import Coordinate, Stock
from audit.testimony import End, Kind, Leak, Snapshot, Written

LINES = (("tea", 2), ("mug", 1))


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with HistoryWriter(path) as history:
        placed = history.invoke(user="ada", key="k1", lines=LINES, body=b"{}")
        history.invoke(user="bob", key=None, lines=(), body=b"")
        history.complete(placed, Answer(End.OK, 202, "order-1", b"reply"))

    first, second = read_history([path])
    assert (first.id, first.user, first.key, first.lines) == (placed, "ada", "k1", LINES)
    assert (first.end, first.status, first.order_id) == (End.OK, 202, "order-1")
    assert (first.body, first.reply) == (short_digest(b"{}"), short_digest(b"reply"))
    assert first.began <= second.began <= (first.ended or 0)
    assert (second.end, second.ended, second.sent) == (End.INFO, None, True)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(End.FAIL, 422),
        Answer(End.INFO, 503),
        Answer(End.INFO, sent=False, why="ConnectionRefusedError"),
    ],
)
def test_every_end_is_read_back(tmp_path: Path, answer: Answer) -> None:
    with HistoryWriter(tmp_path / "history") as history:
        history.complete(history.invoke(user="ada", key=None, lines=LINES, body=b"{}"), answer)

    (request,) = read_history([tmp_path / "history"])
    assert (request.end, request.status, request.sent, request.why) == (
        answer.end,
        answer.status,
        answer.sent,
        answer.why,
    )


def test_several_loads_share_a_file_and_a_half_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "history"
    for user in ("ada", "bob"):
        with HistoryWriter(path) as history:
            history.complete(
                history.invoke(user=user, key=None, lines=LINES, body=b"{}"), Answer(End.OK, 202, user, b"r")
            )
    with path.open("a") as file:
        file.write('{"t": 1, "type": "inv')

    assert [request.order_id for request in read_history([path])] == ["ada", "bob"]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    records = (
        Written(Kind.ORDER, "", "order-1", "ada", 3, 17),
        Written(Kind.COPY, "later", "order-1", "ada", None, None),
        Written(Kind.POISON, "bad magic", "", "bob", 0, 0, "0aff"),
    )
    with WrittenWriter(tmp_path / "written") as written:
        for record in records:
            written.note(record)

    assert read_written([tmp_path / "written"]) == records
    assert [record.at for record in records] == [
        Coordinate("orders.created", 3, 17),
        None,
        Coordinate("orders.created", 0, 0),
    ]


def test_a_snapshot_is_read_back(tmp_path: Path) -> None:
    snapshots = (Snapshot(1.5, (Stock("tea", 10, 8, 2), Stock("gone", None, None, 1))), Snapshot(2.5, ()))
    (tmp_path / "snapshots").write_text("".join(map(snapshot_line, snapshots)), encoding="utf-8")

    assert read_snapshots([tmp_path / "snapshots"]) == snapshots


def test_half_a_snapshot_is_none_yet(tmp_path: Path) -> None:
    whole = snapshot_line(Snapshot(1.5, (Stock("tea", 10, 8, 2),)))
    (tmp_path / "snapshots").write_text(whole + whole[:20], encoding="utf-8")

    assert read_snapshots([tmp_path / "snapshots"]) == (Snapshot(1.5, (Stock("tea", 10, 8, 2),)),)


LOG = """{"event": "worker.started", "url": "postgresql://inventory_rw@127.0.0.1:5432/pipeline"}
{"event": "order.failed", "user": "ada@shop.example", "also": "bob@shop.example"}
{"event": "settings.read", "password": "hunter2+"}
"""


def test_secrets_and_addresses_in_a_log_are_found_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text(LOG, encoding="utf-8")

    lines, leaks = search([tmp_path / "worker"], ["hunter2+", "not there", ""])

    assert lines == 3
    assert leaks == (Leak("worker", 2, "an e-mail address"), Leak("worker", 3, "a secret"))
    assert "hunter2" not in str(leaks)


def test_evidence_of_nothing_is_testimony_of_nothing(tmp_path: Path) -> None:
    assert not Evidence().testimony().complete
    (tmp_path / "history").touch()
    assert Evidence(history=tmp_path / "history").testimony().complete
    assert not Evidence(history=tmp_path / "history", complete=False).testimony().complete


def test_a_history_is_one_json_document_per_line(tmp_path: Path) -> None:
    """Others may read it: `jq` above all."""
    with HistoryWriter(tmp_path / "history") as history:
        history.complete(history.invoke(user="ä\n", key="k", lines=LINES, body=b"{}"), Answer(End.FAIL, 400))

    lines = [json.loads(line) for line in (tmp_path / "history").read_text(encoding="utf-8").splitlines()]
    assert [line["type"] for line in lines] == ["invoke", "fail"]
    assert lines[0]["t"] <= lines[1]["t"]
