"""Every kind of fault, one function each, by what is hurt."""

from collections.abc import Mapping

from chaos.faults import edges, servers, topic, wire, workers
from chaos.faults.field import Evidence, Fault, Field, Hurts, Stopped

__all__ = ["FAULTS", "Evidence", "Fault", "Field", "Hurts", "Stopped"]

FAULTS: Mapping[str, Fault] = {
    fault.kind: fault for fault in (*workers.FAULTS, *wire.FAULTS, *servers.FAULTS, *topic.FAULTS, *edges.FAULTS)
}
"""By kind."""
