"""Restore a test's database from a backup, as an operator does."""

import sqlalchemy as sa

from deploy.provision import database
from onceloop.records import Partition
from tests.pipeline import Pipeline


class Backup:
    """A copy of the database as it stands when this is made, which must be while no session is open.

    A copy by template holds what a dump of that moment holds: all rows, constraints and grants.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._settings = pipeline.settings
        self._name = f"{pipeline.settings.database}_backup"
        with database.admin_connection(self._settings, "postgres") as connection:
            database.ensure_database(connection, self._name, source=self._settings.database)

    def restore(self) -> None:
        """Put it in the place of the database, under the feet of all clients: their sessions end.

        It cannot be done otherwise: a database is dropped, or its server stopped, and both end every session.
        """
        name = self._settings.database
        with database.admin_connection(self._settings, "postgres") as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
            connection.exec_driver_sql(f"ALTER DATABASE {self._name} RENAME TO {name}")


def progress(pipeline: Pipeline) -> dict[Partition, int]:
    with pipeline.connect("checker") as connection:
        rows = connection.execute(sa.text('SELECT topic, partition, "offset" FROM inventory.progress'))
        return {Partition(topic, number): offset for topic, number, offset in rows}
