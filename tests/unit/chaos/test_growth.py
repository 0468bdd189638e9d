"""What grows is distinguished from what only wavers."""

import pytest

from chaos.growth import SAMPLES_MIN, Life, curves, grown, thirds

WORKER = Life("inventory 1", 42)


@pytest.mark.parametrize(
    ("what", "series"),
    [
        ("megabytes", [100 + 2.0 * minute for minute in range(30)]),
        ("descriptors", [20 + 1.0 * minute for minute in range(30)]),
        ("connections", [10.0] * 10 + [15.0] * 10 + [21.0] * 10),
    ],
)
def test_what_grows_is_named(what: str, series: list[float]) -> None:
    (found,) = grown({(WORKER, what): series})
    assert "inventory 1 (pid 42)" in found
    assert what in found


@pytest.mark.parametrize("what", ["megabytes", "descriptors", "connections"])
def test_what_wavers_is_not(what: str) -> None:
    assert not grown({(WORKER, what): [50.0, 53.0, 48.0, 51.0, 49.0, 52.0] * 5})


def test_a_short_life_is_not_judged() -> None:
    samples = {(WORKER, "megabytes"): [10.0] * (SAMPLES_MIN - 2) + [1000.0]}
    assert not grown(samples)
    assert not curves(samples)


def test_one_peak_does_not_count() -> None:
    assert thirds([1, 1, 1, 5, 5, 5, 2, 900, 2]) == (1, 2)


def test_curves_are_reported_by_name() -> None:
    series = [100.04] * SAMPLES_MIN
    assert curves({(WORKER, "megabytes"): series}) == {"inventory 1 (pid 42), megabytes": [100.0] * SAMPLES_MIN}
