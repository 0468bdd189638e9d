"""Ask this container's own process whether it is ready; Docker runs this every few seconds, so it is small.

    python -IS probe.py [PORT]

Exit code 0 for 200 from /readyz, 1 for anything else.
"""

import socket
import sys

PORT = 8090
SECONDS = 2.0


def ready(port: int) -> bool:
    """Return True if /readyz answers 200 in time."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return connection.recv(64).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not ready(int(sys.argv[1]) if len(sys.argv) > 1 else PORT))
