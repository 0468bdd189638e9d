from pathlib import Path

import pytest

from deploy.local.supervise import logs


def test_large_log_is_moved_aside_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SIZE_BYTES_MAX", 10)
    log = tmp_path / "kafka.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"more than ten bytes\n")
        logs.bound(log)
        writer.write(b"after\n")
    assert (tmp_path / "kafka.log.1").read_bytes() == b"more than ten bytes\n"
    assert log.read_bytes() == b"after\n"


def test_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("short\n", encoding="utf-8")
    logs.bound(log)
    assert [path.name for path in tmp_path.iterdir()] == ["kafka.log"]


def test_tail_gives_whole_lines_and_starts_over_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("one\ntw", encoding="utf-8")
    tail = logs.Tail(log, offset=0)
    assert tail.new_lines() == ["one"]
    with log.open("a", encoding="utf-8") as writer:
        writer.write("o\n")
    assert tail.new_lines() == ["two"]
    log.write_text("new\n", encoding="utf-8")
    assert tail.new_lines() == ["new"]


def test_absent_log_has_no_lines(tmp_path: Path) -> None:
    absent = tmp_path / "absent.log"
    assert logs.last_lines(absent, 5) == []
    assert logs.lines_since(absent, 0) == []
    assert logs.size(absent) == 0


def test_last_lines_are_the_last_ones(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert logs.last_lines(log, 2) == ["two", "three"]
