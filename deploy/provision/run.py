"""Do all of it in order: roles, database, migrations, topics, first offsets, schemas, stock.

Each step may be repeated and changes nothing the second time. A crash in between leaves what was done; the next run
goes on from there. Two runs on one server take turns.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from common.kafka.admin import Admin
from common.topics import (
    ALL_TOPICS,
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    METRICS,
    METRICS_PARTIALS,
    METRICS_TOTALS,
    MINUTE_VOLUMES,
    ORDERS_CREATED,
)
from deploy.provision import additions, connectors, database, demo, growth, roles
from deploy.provision.config import ProvisionSettings
from deploy.schemas.subjects import COMPATIBILITY, register_all
from migrations.upgrade import newest, unknown
from onceloop.errors import Busy, FatalError, ReportedError
from onceloop.records import Partition
from services.folder import Added


@dataclass(frozen=True, slots=True)
class Done:
    """One step that is done: what it changed (empty if nothing), and what stands now."""

    step: str
    changed: tuple[str, ...]
    standing: str


def provision(settings: ProvisionSettings, report: Callable[[Done], None], added: Sequence[Added] = ()) -> None:
    """Provision everything, and what the added services need, and report each step as it is done.

    Raises FatalError if a server does not answer (later it may), ReportedError if one refuses or holds something else.
    """
    passwords = roles.read_passwords(settings.role_secrets_dir, _roles(added))  # refused before anything connects
    with _server_errors(settings), database.administration(settings) as connection:
        for done in _steps(settings, connection, passwords, added):
            report(done)


def _roles(added: Sequence[Added]) -> tuple[roles.Role, ...]:
    return (*roles.ROLES, *(roles.Role(each.service.role, 50) for each in added if each.service.role is not None))


def _steps(
    settings: ProvisionSettings, connection: sa.Connection, passwords: dict[str, str], added: Sequence[Added]
) -> Iterator[Done]:
    _refuse_newer_database(settings, connection)
    yield Done("roles", roles.ensure_roles(connection, passwords, _roles(added)), f"{len(passwords) + 1} roles")
    created = database.ensure_database(connection, settings.database)
    yield Done("database", (settings.database,) if created else (), settings.database)
    with database.admin_connection(settings, settings.database) as own:
        yield Done("migrations", database.migrate(own), f"at {newest()}")
    admin = Admin(settings)
    topics = admin.create_topics(replication=settings.kafka_replication, min_insync=settings.kafka_min_insync)
    grown = growth.bring_in_step(admin)
    yield Done("topics", topics + grown, f"{len(ALL_TOPICS)} topics")
    with database.admin_connection(settings, settings.database) as own:
        _refuse_forgotten_offsets(own, admin, settings)
    _refuse_forgotten_counts(admin, settings)
    offsets = admin.write_first_offsets()
    yield Done("offsets", tuple(group for group, count in offsets.items() if count), f"{len(offsets)} groups")
    subjects = register_all(settings)
    yield Done("schemas", subjects.new, f"{len(subjects.ids)} subjects, {COMPATIBILITY}")
    with database.admin_connection(settings, settings.database) as own:
        shop = demo.demo_stock()
        yield Done("stock", demo.insert_missing(own, shop), f"{len(shop)} SKUs of the demo shop")
    if added:
        yield Done("services", additions.provision(settings, admin, added), f"{len(added)} added")
    if settings.connect_url:
        yield connect(settings, admin)


def connect(settings: ProvisionSettings, admin: Admin) -> Done:
    """Make the sinks' dead-letter topics before anything can be put there, then the connectors."""
    sinks = connectors.chosen(settings)
    letters = [sink.dead_letters for sink in sinks]
    admin.create_topics(letters, replication=settings.kafka_replication, min_insync=settings.kafka_min_insync)
    return Done("connectors", connectors.put(settings), f"{len(sinks)} connectors")


def _refuse_newer_database(settings: ProvisionSettings, connection: sa.Connection) -> None:
    """Raise ReportedError before anything is changed in a database that a newer version has migrated.

    Its roles may have rights that this version would take away.
    """
    if not database.exists(connection, settings.database):
        return
    with database.admin_connection(settings, settings.database) as own:
        revision = unknown(own)
    if revision is not None:
        raise ReportedError(
            f"the database {settings.database} was migrated by a newer version: migration {revision}; this version"
            f" knows up to {newest()}",
            cure="provision with the version that migrated it, or a newer one; nothing was changed",
        )


def _refuse_forgotten_offsets(connection: sa.Connection, admin: Admin, settings: ProvisionSettings) -> None:
    """Raise ReportedError if orders of a partition were decided, and the group has no offset there any more.

    A broker forgets a group that was away for long. Begun at the earliest record, it would publish every outcome again.
    """
    topic = ORDERS_CREATED.within(settings.namespace)
    known = {partition.number for partition in admin.committed(INVENTORY) if partition.topic == topic}
    rows = connection.execute(
        sa.text('SELECT partition, max("offset") FROM inventory.decision WHERE topic = :topic GROUP BY partition'),
        {"topic": topic},
    )
    forgotten = {number: last for number, last in rows if number not in known}
    if forgotten:
        decided = ", ".join(f"{topic}[{number}] up to {last}" for number, last in sorted(forgotten.items()))
        raise ReportedError(
            f"group {INVENTORY.within(settings.namespace)} lost its offsets, but orders are decided: {decided}",
            cure="stop the workers, then: pipeline offsets repair inventory",
        )


def _refuse_forgotten_counts(admin: Admin, settings: ProvisionSettings) -> None:
    """Raise ReportedError if minutes were counted, and the group that counts has no offset on some partition any more.

    Begun at the earliest record, every order would be counted a second time.
    """
    for group, sources, result in (
        (METRICS, (INVENTORY_RESERVED, INVENTORY_FAILED), METRICS_PARTIALS),
        (METRICS_TOTALS, (METRICS_PARTIALS,), MINUTE_VOLUMES),
    ):
        known = admin.committed(group).keys()
        # Partitions that were added may have none yet; these were there from the beginning.
        made = [Partition(topic.within(settings.namespace), n) for topic in sources for n in range(topic.partitions)]
        missing = sum(partition not in known for partition in made)
        if missing and any(admin.stable_ends([result]).values()):
            raise ReportedError(
                f"group {group.within(settings.namespace)} has no offset on {missing} partitions, "
                f"but {result.within(settings.namespace)} holds what it counted",
                cure="stop the metrics, then: python -m metrics_service repair (docs/runbook.md)",
            )


@contextmanager
def _server_errors(settings: ProvisionSettings) -> Iterator[None]:
    """Name the server that does not answer, or the right that is missing."""
    try:
        yield
    except Busy as error:
        raise FatalError(
            f"the schema registry does not answer at {settings.registry_address}: {error}",
            cure="start it, or correct PIPELINE_REGISTRY_URL",
        ) from error
    except sa.exc.OperationalError as error:
        raise FatalError(
            f"PostgreSQL at {settings.postgres_admin_url}: {error.orig}",
            cure="start it, or correct PIPELINE_POSTGRES_ADMIN_URL and its password",
        ) from error
    except sa.exc.ProgrammingError as error:
        raise ReportedError(
            f"PostgreSQL refuses: {error.orig}", cure="PIPELINE_POSTGRES_ADMIN_URL needs a role that may create roles"
        ) from error
