"""Consume, decide, produce: exactly once, with the decision in PostgreSQL.

What `__all__` names is public; everything else may change with any release. Names are imported when they are first
asked for: `Once` needs the extra `postgres`, the rest does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onceloop.app import Once
    from onceloop.config import KafkaConfig
    from onceloop.errors import Busy, ConfigError, ContractError, FatalError, Poison, ReportedError, Situation
    from onceloop.handlers import Refused
    from onceloop.lifecycle import Stop
    from onceloop.lines import LinesObserver
    from onceloop.probe_server import Page
    from onceloop.records import CommitPoint, InputRecord, Keep, OutputRecord, Partition, Publish, Quarantine, Step
    from onceloop.telemetry import Metric, Observer, Observers

__all__ = [
    "Busy",
    "CommitPoint",
    "ConfigError",
    "ContractError",
    "FatalError",
    "InputRecord",
    "KafkaConfig",
    "Keep",
    "LinesObserver",
    "Metric",
    "Observer",
    "Observers",
    "Once",
    "OutputRecord",
    "Page",
    "Partition",
    "Poison",
    "Publish",
    "Quarantine",
    "Refused",
    "ReportedError",
    "Situation",
    "Step",
    "Stop",
]

_HOMES = {
    **dict.fromkeys(
        ["Busy", "ConfigError", "ContractError", "FatalError", "Poison", "ReportedError", "Situation"],
        "onceloop.errors",
    ),
    **dict.fromkeys(
        ["CommitPoint", "InputRecord", "Keep", "OutputRecord", "Partition", "Publish", "Quarantine", "Step"],
        "onceloop.records",
    ),
    **dict.fromkeys(["Metric", "Observer", "Observers"], "onceloop.telemetry"),
    "KafkaConfig": "onceloop.config",
    "LinesObserver": "onceloop.lines",
    "Once": "onceloop.app",
    "Page": "onceloop.probe_server",
    "Refused": "onceloop.handlers",
    "Stop": "onceloop.lifecycle",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'onceloop' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
