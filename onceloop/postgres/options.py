"""libpq's options for a service's connections: who it is, how long it may take, which servers will do."""

from typing import Literal

CONNECT_SECONDS = 3
TCP_USER_TIMEOUT_MS = 10_000
SESSION = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "transaction_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
}
"""What a session of a service may take at most; its role says the same, for clients that forget."""

Target = Literal["read-write", "any"]


def connect_options(application: str, *, target: Target = "read-write") -> dict[str, str | int]:
    """Return libpq's options for one connection: time-outs, keep-alive, and which servers will do."""
    options: dict[str, str | int] = {
        "application_name": application,
        "connect_timeout": CONNECT_SECONDS,
        "target_session_attrs": target,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
    }
    if target == "read-write":
        options["options"] = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    return options
