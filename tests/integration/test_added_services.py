"""What provisioning leaves for a service from a folder, on real servers: made once, grown, kept apart from the rest."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from common.config import PostgresSettings
from common.kafka.admin import Admin
from common.postgres.engine import create_engine
from common.topics import ORDERS_CREATED, Group
from deploy.provision import additions, database, roles
from deploy.provision.config import ProvisionSettings
from onceloop.records import Partition
from services.folder import FILE, Added, load
from tests.pipeline import Pipeline


@pytest.fixture
def name() -> str:
    """Roles belong to the whole server, so each test has a service of its own name."""
    return "x" + secrets.token_hex(4).translate(str.maketrans("0123456789", "ghijklmnop"))


@pytest.fixture
def settings(pipeline: Pipeline, tmp_path: Path, name: str) -> Iterator[ProvisionSettings]:
    for role in roles.ROLES:
        (tmp_path / role.name).write_text((pipeline.settings.role_secrets_dir / role.name).read_text())
    (tmp_path / f"{name}_rw").write_text("throw-away")
    yield pipeline.settings.model_copy(update={"role_secrets_dir": tmp_path})
    pipeline.admin.delete_topics(added(tmp_path, name, partitions=1).topics)
    pipeline.admin.delete_groups([Group(name)])
    with database.admin_connection(pipeline.settings, pipeline.settings.database) as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {name}_rw CASCADE")
        connection.exec_driver_sql(f"DROP ROLE {name}_rw")


def added(tmp_path: Path, name: str, *, partitions: int) -> Added:
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    (folder / "own.py").touch()
    row = f'name = "{name}"\nrun = ["own"]\ninputs = ["orders.created"]\n[outputs]\n"{name}.done" = {partitions}\n'
    (folder / FILE).write_text(row)
    return load([folder])[0]


def provision(settings: ProvisionSettings, service: Added) -> tuple[str, ...]:
    every = (*roles.ROLES, roles.Role(str(service.service.role), 5))
    with database.administration(settings) as connection:
        roles.ensure_roles(connection, roles.read_passwords(settings.role_secrets_dir, every), every)
    return additions.provision(settings, Admin(settings), [service])


def as_role(settings: ProvisionSettings, role: str, password: str) -> sa.Engine:
    server = sa.make_url(settings.postgres_admin_url)
    url = f"postgresql://{role}@{server.host}:{server.port}/{settings.database}"
    return create_engine(
        PostgresSettings(postgres_url=url, postgres_password=password), application="test", pool_size=1
    )


def test_second_run_changes_nothing__and_further_partitions_are_added(
    pipeline: Pipeline, settings: ProvisionSettings, tmp_path: Path, name: str
) -> None:
    service = added(tmp_path, name, partitions=2)
    within = pipeline.namespace
    done, letters, group = f"{within}.{name}.done", f"{within}.orders.created.{name}.dlq", f"{within}.{name}"
    assert set(provision(settings, service)) == {f"schema {name}", done, letters, group}
    assert provision(settings, service) == ()
    assert provision(settings, added(tmp_path, name, partitions=5)) == (done,)
    assert set(pipeline.admin.partitions(added(tmp_path, name, partitions=5).outputs).values()) == {5}
    assert provision(settings, service) == (), "fewer in the row takes none away"


def test_group_begins_at_the_earliest_order_of_every_partition(
    pipeline: Pipeline, settings: ProvisionSettings, tmp_path: Path, name: str
) -> None:
    """So it sees the orders that were placed before it was added; what the shop's own groups have stays."""
    before = pipeline.admin.committed(ORDERS_CREATED.readers[0])
    service = added(tmp_path, name, partitions=1)
    provision(settings, service)
    topic = ORDERS_CREATED.within(pipeline.namespace)
    unread = pipeline.admin.write_first_offsets(service.inputs)
    assert unread == {f"{pipeline.namespace}.{name}": 0}, "every partition has one"
    assert Partition(topic, 0) in before
    assert pipeline.admin.committed(ORDERS_CREATED.readers[0]) == before


def test_role_owns_its_schema_and_reaches_no_other(
    pipeline: Pipeline, settings: ProvisionSettings, tmp_path: Path, name: str
) -> None:
    provision(settings, added(tmp_path, name, partitions=1))
    own = as_role(settings, f"{name}_rw", "throw-away")
    with own.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE verdict (order_id uuid PRIMARY KEY)")
    with own.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.exec_driver_sql("SELECT * FROM inventory.stock")
    own.dispose()
    with pipeline.connect("reader") as connection:
        count = sa.select(sa.func.count()).select_from(sa.table("verdict", schema=name))
        assert connection.execute(count).scalar() == 0
