"""Decide what an Idempotency-Key means for a request: a new order, the same one again, or a misuse. Pure.

The row of a key is written once, by the first request; every request is judged by that row.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from enum import Enum, auto

from order_service.core.placement import PlaceOrder


class Claim(Enum):
    """What a request is, measured by the row of its key."""

    NEW = auto()
    """This request wrote the row."""
    REPLAY = auto()
    """The same request came before: the same order, the same answer."""
    CONFLICT = auto()
    """The key belongs to another request."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of one user: which request it stands for, and the event bytes that every attempt produces."""

    user_id: str
    key: str
    fingerprint: bytes
    order_id: str
    event: bytes
    acknowledged: bool = False
    """The broker has the event: nothing is left to do but to answer."""


def fingerprint(command: PlaceOrder) -> bytes:
    """Return the SHA-256 of the command in canonical form, so that spacing and member order of the JSON do not matter.

    Keys outlive a release: a member at its default is left out, so one that is added to the command (with a default)
    leaves the form of commands without it unchanged.
    """
    members = {each.name: (getattr(command, each.name), each.default) for each in fields(command)}
    canonical = {name: value for name, (value, default) in members.items() if value != default}
    text = json.dumps(canonical, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def judge(offered: KeyRow, standing: KeyRow, *, as_sent: bytes) -> Claim:
    """Return what the request that offered a row is, given the row that stands under its key.

    `as_sent`: the fingerprint of the command with its names as they came. A release that kept names so may have written
    the row; were its own client refused now, it would take a new key and order twice.
    """
    if standing.order_id == offered.order_id:
        return Claim.NEW
    if standing.fingerprint in {offered.fingerprint, as_sent}:
        return Claim.REPLAY
    return Claim.CONFLICT
