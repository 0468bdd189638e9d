"""Lend a connection to a handler: inside a transaction that only the library may end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg
from psycopg.pq import TransactionStatus

from onceloop.errors import ContractError
from onceloop.postgres.bounded import BoundedConnection

_KEPT = ("commit", "rollback", "close")
_CHOICES = ("row_factory", "cursor_factory")
_CURE = (
    "leave the transaction to the library: what the handler writes is committed with its decision, or not at all. To"
    " undo a part of it, use `with db.transaction():`"
)


@contextmanager
def lent(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """Yield the connection with commit, rollback and close refused.

    Afterwards its rows and cursors are again as they were, and what the server warned of is forgotten: a warning that
    counts is one of the COMMIT.

    Raises ContractError if the block has ended the transaction, or left it failed, and psycopg.OperationalError if it
    went on without the connection.
    """
    for name in _KEPT:
        setattr(connection, name, _refusal(name))
    former = {name: getattr(connection, name) for name in _CHOICES}
    try:
        yield connection
    finally:
        for name in _KEPT:
            delattr(connection, name)
        for name, choice in former.items():
            setattr(connection, name, choice)
        if isinstance(connection, BoundedConnection):
            connection.warned = False
    if connection.closed:
        raise psycopg.OperationalError("the connection was lost while the handler worked")
    status = connection.info.transaction_status
    if status is TransactionStatus.INERROR:
        raise ContractError(
            "the handler went on after a database error, and PostgreSQL keeps nothing of the transaction",
            cure="let the error out, or put the statements that may fail into `with db.transaction():`",
        )
    if status is not TransactionStatus.INTRANS:
        raise ContractError("the handler ended the transaction", cure=_CURE)


def _refusal(name: str) -> object:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise ContractError(f"the handler called {name}() on its connection", cure=_CURE)

    return refuse
