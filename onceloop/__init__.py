"""Consume, decide, produce: exactly once, with the decision in PostgreSQL.

What `__all__` names is public; everything else may change with any release. Names are imported when they are first
asked for: `Once` needs the extra `postgres`, the rest does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onceloop.app import Once
    from onceloop.config import KafkaConfig
    from onceloop.errors import ConfigError, ContractError, FatalError, ReportedError
    from onceloop.handlers import Refused
    from onceloop.lines import LinesObserver
    from onceloop.records import CommitPoint, InputRecord, Keep, OutputRecord, Partition, Publish, Step
    from onceloop.telemetry import Observer, Observers

__all__ = [
    "CommitPoint",
    "ConfigError",
    "ContractError",
    "FatalError",
    "InputRecord",
    "KafkaConfig",
    "Keep",
    "LinesObserver",
    "Observer",
    "Observers",
    "Once",
    "OutputRecord",
    "Partition",
    "Publish",
    "Refused",
    "ReportedError",
    "Step",
]

_HOMES = {
    **dict.fromkeys(["ConfigError", "ContractError", "FatalError", "ReportedError"], "onceloop.errors"),
    **dict.fromkeys(
        ["CommitPoint", "InputRecord", "Keep", "OutputRecord", "Partition", "Publish", "Step"], "onceloop.records"
    ),
    **dict.fromkeys(["Observer", "Observers"], "onceloop.telemetry"),
    "KafkaConfig": "onceloop.config",
    "LinesObserver": "onceloop.lines",
    "Once": "onceloop.app",
    "Refused": "onceloop.handlers",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'onceloop' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
