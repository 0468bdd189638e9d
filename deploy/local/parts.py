"""The optional parts of the local stack, by the name that follows `--with`.

To add one, write `deploy/local/<name>.py` with a `Part`, and put a row into `load`.
"""

from enum import StrEnum

from deploy.local.part import Part


class Name(StrEnum):
    """The parts there are."""

    CONNECT = "connect"
    MONITORING = "monitoring"


def load(name: str) -> Part:
    """Import a part's module and return the part."""
    match Name(name):
        case Name.CONNECT:
            from deploy.local.connect import ConnectPart

            return ConnectPart()
        case Name.MONITORING:
            from deploy.local.monitoring import MonitoringPart

            return MonitoringPart()
