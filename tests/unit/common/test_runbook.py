"""Who is sent to the runbook finds the section."""

import re
from pathlib import Path

from common.runbook import SECTIONS, way_out
from onceloop.errors import FatalError, Situation

RUNBOOK = (Path(__file__).parents[3] / "docs/runbook.md").read_text(encoding="utf-8")


def test_every_situation_of_the_loop_has_a_section() -> None:
    assert SECTIONS.keys() == set(Situation)
    assert set(SECTIONS.values()) <= set(re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE))


def test_way_out_is_the_cure_and_the_section() -> None:
    error = FatalError("it is gone", cure="change nothing", situation=Situation.OFFSET_LOST)
    assert way_out(error) == "change nothing: docs/runbook.md, `Retention overtook a group`"
    assert way_out(FatalError("no", cure="restart")) == "restart"
