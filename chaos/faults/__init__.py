"""Every kind of fault, one function each, by what is hurt."""

from collections.abc import Mapping

from chaos.faults import edges, leader, machine, offsets, operators, repairs, servers, topic, wire, workers
from chaos.faults.harness import QUICK, REAL, Evidence, Fault, Harness, Hurts, Pace

__all__ = ["FAULTS", "ON_EACH_CHANGE", "QUICK", "REAL", "Evidence", "Fault", "Harness", "Hurts", "Pace"]

FAULTS: Mapping[str, Fault] = {
    fault.kind: fault
    for module in (workers, wire, servers, topic, edges, operators, offsets, repairs, leader, machine)
    for fault in module.FAULTS
}
"""By kind."""
ON_EACH_CHANGE = tuple(fault.kind for module in (workers, wire, servers, topic, edges) for fault in module.FAULTS)
"""Kinds that a run of a few minutes has room for. What operators do takes procedures and time: it falls nightly."""
