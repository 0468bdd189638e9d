"""Read where PostgreSQL is: refuse an address of which libpq's messages might show a password. Pure.

A password that is not percent-encoded ends up in the host, the port or the database's name, which libpq's messages do
show, as do those about an address that it cannot read.
"""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from onceloop.errors import ConfigError

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
