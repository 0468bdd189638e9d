"""Ports that no other process takes: not another test, not the stack of another run, not a client's connection."""

import random

from deploy.local.stack.ports import Claims

# Below the range that outgoing connections take theirs from: no client steals a port between claim and listen.
PORTS = range(20_000, 32_000)
TRIES_MAX = 100


def free_port(claims: Claims) -> int:
    """Claim a port; no other process gets it until the claims are released."""
    for _ in range(TRIES_MAX):
        port = random.choice(PORTS)
        if claims.claim(port):
            return port
    raise AssertionError("no free port found")
