"""A headless Chromium, driven over WebDriver (W3C): plain HTTP and JSON, so no client library is needed."""

import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.monitoring import needs

HEIGHT = 900
WAY = "install Debian's packages chromium and chromium-driver"
SECONDS_MAX = 120.0
_PORT = re.compile(r"started successfully on port (\d+)")


@dataclass(frozen=True, slots=True)
class Browser:
    """One window. `port`: of the driver, on loopback."""

    port: int
    session: str

    def open(self, address: str) -> None:
        _ask(self.port, "POST", f"/session/{self.session}/url", {"url": address})

    def run(self, script: str) -> Any:
        """Return what the body of a function returns, run in the page."""
        return _ask(self.port, "POST", f"/session/{self.session}/execute/sync", {"script": script, "args": []})

    def wait_for(self, script: str, *, what: str) -> Any:
        """Return the first value that is something."""
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"{what}: not within {SECONDS_MAX:.0f} s; {self.complaints()}"
            time.sleep(0.05)
        return found

    def complaints(self) -> list[str]:
        """Return what the page wrote to the console since the last look: refusals of its policy, errors, failures."""
        entries = _ask(self.port, "POST", f"/session/{self.session}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]


@contextmanager
def open_browser(*, width: int) -> Iterator[Browser]:
    """Open a window that is this many pixels wide. Skips the test where there is no browser (see `needs`)."""
    driver, chromium = needs("chromedriver", way=WAY), needs("chromium", way=WAY)
    with TemporaryDirectory(prefix="browser-") as folder:
        log = Path(folder) / "driver.log"
        with log.open("wb") as out:
            process = subprocess.Popen([driver, "--port=0"], stdout=out, stderr=subprocess.STDOUT)
        try:
            port = _wait_for_port(log)
            session = _ask(
                port, "POST", "/session", {"capabilities": {"alwaysMatch": _wanted(chromium, folder, width)}}
            )
            yield Browser(port, session["sessionId"])
            _ask(port, "DELETE", f"/session/{session['sessionId']}")
        finally:
            process.terminate()
            process.wait(SECONDS_MAX)


def _wanted(chromium: str, folder: str, width: int) -> dict[str, Any]:
    return {
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {
            "binary": chromium,
            "args": [
                "--headless=new",
                "--no-sandbox",  # in a container, and for root, there is none to be had
                "--disable-dev-shm-usage",
                "--disable-gpu",
                f"--user-data-dir={folder}/profile",
            ],
            "mobileEmulation": {"deviceMetrics": {"width": width, "height": HEIGHT, "pixelRatio": 1, "mobile": False}},
        },
    }


def _wait_for_port(log: Path) -> int:
    deadline = time.monotonic() + SECONDS_MAX
    while (found := _PORT.search(log.read_text(encoding="utf-8"))) is None:
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.05)
    return int(found[1])


def _ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())["value"]
    connection.close()
    assert response.status == http.client.OK, answer
    return answer
