"""Bytes, connections and event types that every service shares; never a service."""
