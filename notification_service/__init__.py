"""Notify the customer, once per event."""
