"""What becomes of the counts of a process that ended: they are added to those of all the dead, or stay as they are."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from common.shared_metrics import bury, page

_Values: Any = MmapedDict  # the library types its surface alone
COUNT = mmap_key("order_http_tries", "order_http_tries_total", ["end"], ["done"], "Tries.")
GAUGE = mmap_key("order_http_workers", "order_http_workers", [], [], "Workers.")


def write(path: Path, value: float, *, key: str = COUNT) -> None:
    values = _Values(str(path))
    values.write_value(key, value, 0.0)
    values.close()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.db")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "counter_11.db", 5)
    write(tmp_path / "counter_12.db", 2)
    write(tmp_path / "gauge_livesum_12.db", 1, key=GAUGE)
    return tmp_path


def test_counts_of_the_dead_are_added_up_in_one_file_and_their_gauges_go(folder: Path) -> None:
    before = page(folder, "order_http_")
    bury(folder, 12)
    bury(folder, 11)
    bury(folder, 13)
    assert files(folder) == {"counter_0.db"}
    assert b'order_http_tries_total{end="done"} 7.0' in before
    assert b"order_http_workers 1.0" in before
    assert b"order_http_workers" not in page(folder, "order_http_")
    assert b'order_http_tries_total{end="done"} 7.0' in page(folder, "order_http_")


def test_frozen_reader_holds_up_no_other__the_files_stay_and_count(folder: Path) -> None:
    frozen = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(frozen, fcntl.LOCK_SH)
    bury(folder, 12)
    os.close(frozen)
    assert files(folder) == {"counter_11.db", "counter_12.db"}
    assert b'order_http_tries_total{end="done"} 7.0' in page(folder, "order_http_")


def test_folder_may_have_brackets_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "stack = 1 [neu]"
    folder.mkdir()
    write(folder / "counter_11.db", 3.0)
    assert b'order_http_tries_total{end="done"} 3.0' in page(folder, "order_http_")


def test_torn_file_ends_no_service(folder: Path) -> None:
    (folder / "counter_12.db").write_bytes(b"torn")
    bury(folder, 12)
    assert "counter_12.db" in files(folder)
