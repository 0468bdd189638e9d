"""Proof: faults on purpose, and the checker that judges."""
