"""The load: seeded orders over HTTP and straight onto the topic, each with a record of what was asked and answered."""

from chaos.load.direct import DirectLoad
from chaos.load.http import HttpLoad
from chaos.load.mix import Mix, Tally

__all__ = ["DirectLoad", "HttpLoad", "Mix", "Tally"]
