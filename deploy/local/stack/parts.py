"""The optional parts of the local stack, by the name that follows `--with`.

To add one, write `deploy/local/servers/<name>.py` with a `Part`, and put a row into `load`.
"""

from enum import StrEnum

from deploy.local.servers.part import Part


class Name(StrEnum):
    """The parts there are."""

    CONNECT = "connect"
    MONITORING = "monitoring"


def load(name: str) -> Part:
    """Import a part's module and return the part."""
    match Name(name):
        case Name.CONNECT:
            from deploy.local.servers.connect import ConnectPart

            return ConnectPart()
        case Name.MONITORING:
            from deploy.local.stack.monitoring import MonitoringPart

            return MonitoringPart()
