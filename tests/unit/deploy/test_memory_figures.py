"""README says how much memory the local stack takes at first, and after a day: its heaps grow to their maximum."""

import re
from pathlib import Path

from deploy.local.servers import kafka, kafka_controller, registry

README = Path(__file__).parents[3] / "README.md"
HEAPS = (kafka.HEAP, kafka_controller.HEAP, registry.HEAP)


def megabytes(heap: tuple[str, ...], option: str) -> int:
    (size,) = [int(each.removeprefix(option).removesuffix("m")) for each in heap if each.startswith(option)]
    return size


def test_readme_s_figure_covers_what_the_heaps_can_grow_by() -> None:
    """Red before: idle for half an hour, Kafka's process alone took 500 MB more, and README knew of 200."""
    figures = re.search(
        r"\| memory \| ([\d.]+) GB for everything together at first, up to ([\d.]+) GB", README.read_text()
    )
    assert figures is not None
    grown = sum(megabytes(heap, "-Xmx") - megabytes(heap, "-Xms") for heap in HEAPS) * 2**20 / 1e9
    assert float(figures[1]) + grown <= float(figures[2])
