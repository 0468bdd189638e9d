"""Bring a database to the newest migration. Forward only: a migration expands first, a later one contracts."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory


def upgrade(connection: sa.Connection) -> tuple[str, ...]:
    """Run what is missing, oldest first, each in a transaction of its own; return the revisions that ran.

    The connection must not be in a transaction and acts as the owner of the tables.
    """
    config = _config()
    config.attributes["connection"] = connection
    before = _revision(connection)
    command.upgrade(config, "head")
    script = ScriptDirectory.from_config(config)
    ran = [step.revision for step in script.iterate_revisions("head", before or "base")]
    return tuple(reversed(ran))


def unknown(connection: sa.Connection) -> str | None:
    """Return the revision of a database that a newer version of the code migrated; None if this one knows it."""
    revision = _revision(connection)
    known = {step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()}
    return revision if revision is not None and revision not in known else None


def newest() -> str | None:
    """Return the newest revision this version of the code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _revision(connection: sa.Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": "public"})
    revision = context.get_current_revision()
    connection.rollback()  # end the transaction that the look-up began
    return revision
