"""Where PostgreSQL is: an address that may show a password in an error is refused, and the library adds to the rest."""

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from onceloop import ConfigError, Once
from onceloop.errors import Busy
from onceloop.postgres.address import bounded_address
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import rerun
from onceloop.runtime import Runtime
from onceloop.telemetry import Silent

SECRET = "hunter2"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:12{SECRET}/x@127.0.0.1/books",
        f"postgresql://me:x@{SECRET}@127.0.0.1/books",
        f"postgres://me:%zz{SECRET}@127.0.0.1/books",
        f"host=127.0.0.1 password=pass {SECRET} dbname=books",
        f"host=127.0.0.1 password=pass {SECRET}=books",
    ],
)
def test_address_of_which_libpq_would_show_a_part_is_refused_without_it(address: str) -> None:
    app = Once(kafka="127.0.0.1:1", postgres=address, group="g", inputs=["a"])
    app.each(key=lambda record: record.key)(lambda _record, _db: None)
    for act in (app.run, app.init, lambda: HotConnection(address, application="test")):
        with pytest.raises(ConfigError, match="postgres") as refused:
            act()
        assert SECRET not in refused.value.message + refused.value.cure
        assert refused.value.__context__ is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "postgresql://",
        f"postgresql://me%40corp:{SECRET}@127.0.0.1:5432,other:5433/books?sslmode=require",
        "postgresql://127.0.0.1/books?user=me@corp",
        "host=/var/run/postgresql user=me@corp",
    ],
)
def test_other_addresses_are_taken(address: str) -> None:
    HotConnection(address, application="test")


class Events(Silent):
    def __init__(self) -> None:
        self.fields: list[dict[str, object]] = []

    def log(self, _level: str, _event: str, /, **fields: object) -> None:
        self.fields.append(fields)


def test_database_that_cannot_be_reached_is_busy_with_the_reason() -> None:
    """Red before: whatever was wrong, PostgreSQL did not let the batch through."""
    events = Events()
    connection = HotConnection(
        f"postgresql://me:{SECRET}@127.0.0.1:1/books", application="test", runtime=Runtime(observer=events)
    )
    with pytest.raises(Busy, match=r"does not let the batch through: .*port 1 failed: Connection refused$") as busy:
        rerun(lambda _connection: None, connection)
    assert isinstance(busy.value.__cause__, psycopg.OperationalError)
    assert SECRET not in str(busy.value)
    assert "Connection refused" in str(events.fields[0]["error"])


def test_settings_of_the_address_are_kept_and_the_bounds_of_the_library_come_last() -> None:
    """Red before: `options` of the address were overwritten in silence, a role among them."""
    address = "postgresql://127.0.0.1/books?sslmode=require&application_name=x"
    address += "&options=-c%20role%3Dledger%20-c%20lock_timeout%3D9s"
    found = conninfo_to_dict(bounded_address(address, password="hush", application="ledger-0"))
    assert str(found["options"]).startswith("-c role=ledger -c lock_timeout=9s -c ")
    assert "-c lock_timeout=2s" in str(found["options"])
    assert (found["sslmode"], found["password"]) == ("require", "hush")
    assert (found["application_name"], found["connect_timeout"]) == ("ledger-0", "3")


def test_settings_of_the_environment_are_kept_where_the_address_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c role=ledger")
    without = conninfo_to_dict(bounded_address("host=h", application="a"))
    assert str(without["options"]).startswith("-c role=ledger -c statement_timeout=5s")
    own = conninfo_to_dict(bounded_address("host=h options='-c role=own'", application="a"))
    assert str(own["options"]).startswith("-c role=own -c statement_timeout=5s")
