"""The load: seeded orders over HTTP and straight onto the topic, each with a record of what was asked and answered."""

from chaos.load.direct import DirectLoad, wall_clock_ms
from chaos.load.http import HttpLoad
from chaos.load.minutes import PastMinutes
from chaos.load.mix import Mix, Tally

__all__ = ["DirectLoad", "HttpLoad", "Mix", "PastMinutes", "Tally", "wall_clock_ms"]
