"""What the broker refuses is known to all processes of the API, for a while."""

import time
from pathlib import Path

import pytest

from onceloop.kafka.errors import Refusal
from order_service.io.refusal_note import REFUSED_SECONDS, RefusalNote


def test_refusal_that_one_process_met_is_known_to_all_until_one_is_accepted(tmp_path: Path) -> None:
    """Red before: each process knew of its own refusals alone, so that probes were answered both ways."""
    one, other = RefusalNote(tmp_path), RefusalNote(tmp_path)
    assert other.standing() is None
    one.write(Refusal.CLOCK)
    assert other.standing() is Refusal.CLOCK
    other.clear()
    assert one.standing() is None


def test_refusal_counts_for_a_while_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = RefusalNote(tmp_path)
    note.write(Refusal.FORBIDDEN)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + REFUSED_SECONDS + 1)
    assert note.standing() is None


def test_note_that_cannot_be_written_or_read_costs_no_order_its_answer(tmp_path: Path) -> None:
    note = RefusalNote(tmp_path / "gone")
    note.write(Refusal.CLOCK)
    note.clear()
    assert note.standing() is None
    (tmp_path / "refusal").write_text("half of")
    assert RefusalNote(tmp_path).standing() is None
