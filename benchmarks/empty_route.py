"""What the pipeline's API is compared with: a Flask route that does nothing, on gunicorn with the same settings.

`python -m benchmarks.empty_route PORT PROCESSES THREADS`
"""

import sys

from flask import Flask, Response
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped] # gunicorn ships no types


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, port: str, processes: str, threads: str) -> None:
        self._options = {
            "bind": f"127.0.0.1:{port}",
            "workers": int(processes),
            "threads": int(threads),
            "worker_class": "gthread",
            "keepalive": 15,
            "loglevel": "warning",
        }
        super().__init__()

    def load_config(self) -> None:
        """Take these options alone."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application. Runs in each process."""
        app = Flask(__name__)
        app.add_url_rule("/empty", "empty", lambda: Response(status=202), methods=["POST"])
        return app


if __name__ == "__main__":
    _Server(*sys.argv[1:]).run()
