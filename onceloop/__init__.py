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
    from onceloop.records import InputRecord, OutputRecord, Partition

__all__ = [
    "ConfigError",
    "ContractError",
    "FatalError",
    "InputRecord",
    "KafkaConfig",
    "Once",
    "OutputRecord",
    "Partition",
    "Refused",
    "ReportedError",
]

_HOMES = {
    **dict.fromkeys(["ConfigError", "ContractError", "FatalError", "ReportedError"], "onceloop.errors"),
    **dict.fromkeys(["InputRecord", "OutputRecord", "Partition"], "onceloop.records"),
    "KafkaConfig": "onceloop.config",
    "Once": "onceloop.app",
    "Refused": "onceloop.handlers",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'onceloop' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
