"""A slow start is waited for, a stuck one is not."""

import pytest

from deploy.local.supervise.progress import SECONDS_MAX, SILENT_SECONDS_MAX, Look, Progress


def watched(seconds: int, *, cpu_share: float = 0.0, log_every: int = 0, began: float = 1000.0) -> Progress:
    """Return what is known after so long of a process that gets this share of a core, and writes now and then."""
    progress = Progress(began)
    for second in range(0, seconds + 1, 5):
        lines = second // log_every if log_every else 0
        progress.take(Look(began + second, 80 * lines, cpu_share * second))
    return progress


def test_process_that_does_nothing_is_given_up_after_ninety_seconds() -> None:
    progress = watched(95)
    assert progress.complaint(1000.0 + SILENT_SECONDS_MAX) == ""
    assert "logged nothing and used no CPU" in progress.complaint(1000.0 + SILENT_SECONDS_MAX + 1)


@pytest.mark.parametrize("doing", [{"cpu_share": 0.05}, {"log_every": 60}], ids=["a twentieth of a core", "its log"])
def test_process_that_gets_on_is_waited_for_long_beyond_that(doing: dict[str, float]) -> None:
    """Two cores at load 37 leave a twentieth of a core to each: Kafka was given up after 90 s, "and said nothing"."""
    assert watched(600, **doing).complaint(1600.0) == ""  # type: ignore[arg-type]  # of each its own kind


def test_server_that_idles_is_not_taken_for_one_that_gets_on() -> None:
    assert watched(95, cpu_share=0.01).complaint(1095.0)


def test_process_that_complains_for_ever_is_given_up_in_the_end() -> None:
    assert "15 minutes" in watched(int(SECONDS_MAX), log_every=5).complaint(1001.0 + SECONDS_MAX)


def test_process_that_gets_stuck_after_a_while_is_given_up_from_then_on() -> None:
    progress = watched(300, log_every=10)
    for second in range(305, 400, 5):
        progress.take(Look(1000.0 + second, 80 * 30, 0.0))
    assert progress.complaint(1385.0) == ""
    assert "for 91 s" in progress.complaint(1391.0)


def test_what_is_waited_for_is_reported_from_twenty_seconds_on__in_few_lines() -> None:
    progress = watched(120, cpu_share=0.5)
    assert progress.report(1019.0) == ""
    lines = [progress.report(1000.0 + second) for second in range(20, 120)]
    assert lines[0] == "starting for 20 s: it is using the CPU"
    assert len(set(lines)) == 5
    assert watched(60).report(1060.0) == "starting for 60 s: no sign of progress yet"
    assert progress.report(1200.0) == "starting for 200 s: no recent progress"
