"""THE table of services: what runs, as which database role, in which groups, in how many slots.

The local stack starts these rows, the chaos lanes run them under faults, provisioning makes their roles, Compose gets
their passwords; tests compare compose.yaml, Prometheus' jobs, `.env.example` and the import contracts with it. To add
a service of your own to a running pipeline needs no row here: docs/howto/add-a-service.md.
"""

from collections.abc import Mapping
from dataclasses import replace

from common.topics import INVENTORY, METRICS, METRICS_TOTALS, NOTIFICATION, ORDER_STATUS
from services.row import Service

API = Service(
    name="order-api",
    program=("order_service", "api"),
    settings="order_service.config:ApiSettings",
    role="order_rw",
    http=True,
)
SERVICES = (
    API,
    Service(
        name="order-projection",
        program=("order_service", "projection"),
        settings="order_service.config:ProjectionSettings",
        role="order_rw",
        groups=(ORDER_STATUS,),
    ),
    Service(
        name="inventory",
        program=("inventory_service",),
        settings="inventory_service.config:InventorySettings",
        role="inventory_rw",
        groups=(INVENTORY,),
        slots=2,
    ),
    Service(
        name="notification",
        program=("notification_service",),
        settings="notification_service.config:NotificationSettings",
        role="notification_rw",
        groups=(NOTIFICATION,),
        slots=1,
    ),
    Service(
        name="metrics",
        program=("metrics_service", "windows"),
        settings="metrics_service.config:MetricsSettings",
        groups=(METRICS,),
        slots=1,
    ),
    Service(
        name="metrics-totals",
        program=("metrics_service", "totals"),
        settings="metrics_service.config:MetricsSettings",
        groups=(METRICS_TOTALS,),
        slots=1,
    ),
)
"""In starting order."""
BY_NAME: Mapping[str, Service] = {service.name: service for service in SERVICES}
PACKAGES = tuple(dict.fromkeys(service.package for service in SERVICES))
ROLES = tuple(dict.fromkeys(service.role for service in SERVICES if service.role is not None))
"""The database roles of services, each once."""
EXPORTER = Service(
    name="exporter", program=("deploy.exporter",), settings="deploy.exporter.config:ExporterSettings", role="reader"
)
"""Runs where monitoring is part of the stack."""


def with_slots(slots: Mapping[str, int]) -> tuple[Service, ...]:
    """Return the table with other numbers of slots, by the services' names."""
    return tuple(replace(each, slots=slots.get(each.name, each.slots)) for each in SERVICES)
