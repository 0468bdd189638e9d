"""Consume, decide, produce: exactly once, with the decision in PostgreSQL."""
