"""The outcome of an order as this service reads it. Pure."""

from common.events.inventory import InventoryFailed, InventoryReserved

Outcome = InventoryReserved | InventoryFailed
