"""Where PostgreSQL is, as a guest says it, with the bounds of our sessions; nothing that might show a password.

A password that is not percent-encoded ends up in the host, the port or the database's name, which libpq's messages do
show, as do those about an address that it cannot read.
"""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from onceloop.errors import ConfigError
from onceloop.postgres.options import connect_options

_URL = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?(?P<where>[^?]*)")
_CURE = (
    "write postgresql://user@host:port/database, and percent-encode what in a part of it is neither letter, digit, dot,"
    " dash nor underscore; or hand the password in by password=..."
)


def refuse_unreadable(address: str) -> None:
    """Raise ConfigError, which shows nothing of the address, for one that is not written as libpq reads it."""
    try:
        conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        readable = False
    else:
        url = _URL.match(address)
        readable = url is None or "@" not in url["where"]
    if not readable:
        raise ConfigError("postgres: the address cannot be read (not shown, since it may hold a password)", cure=_CURE)


def bounded_address(address: str, *, password: str = "", application: str) -> str:
    """Return the address with `connect_options`; settings that its own `options`, or PGOPTIONS, makes are kept.

    Ours come last, and the last one counts. Raises psycopg.ProgrammingError for an address that cannot be read.
    """
    ours = connect_options(application)
    own = conninfo_to_dict(address).get("options") or _options_of_the_environment()
    options = " ".join(str(each) for each in (own, ours["options"]) if each)
    return make_conninfo(address, password=password or None, **{**ours, "options": options})


def _options_of_the_environment() -> str:
    defaults = {each.keyword: each.val for each in Conninfo.get_defaults()}
    return (defaults.get(b"options") or b"").decode()
