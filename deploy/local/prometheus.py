"""The Prometheus of a local stack: scrapes every process of it, judges the alert rules. The program is the system's.

What it scrapes stands in a file of its own, by name instead of by port, so that a series goes on where a process comes
back elsewhere; a Prometheus of the user's can be pointed at the same file.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.home import Home, write_atomically
from deploy.local.launch import Launch
from deploy.local.loopback import LOOPBACK, get
from onceloop.errors import ConfigError

PROMETHEUS = "prometheus"
RULES = Path(__file__).parents[1] / "prometheus" / "alerts.yml"
SCRAPE_SECONDS = 5
"""A demonstration is over before a server's usual 15 s have shown anything."""
CURE = (
    "Debian, Ubuntu: `sudo apt-get install -y --no-install-recommends prometheus`, then `sudo systemctl disable --now"
    " prometheus`, for the stack starts its own; macOS: `brew install prometheus`; elsewhere: put `prometheus` on PATH"
)
_PATTERN_SIGNS = re.compile(r"[\\*?\[\]]")
_RETENTION = ("--storage.tsdb.retention.time=2d", "--storage.tsdb.retention.size=256MB")


@dataclass(frozen=True, slots=True)
class Target:
    """One page of metrics. `job` is the service, `instance` the process; the alert rules know both."""

    job: str
    instance: str
    port: int
    path: str = "/metrics"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Starts Prometheus on loopback; its data lie in the stack's folder and are bounded."""

    home: Home
    port: int
    targets: tuple[Target, ...]
    name: str = PROMETHEUS
    slot: int | None = None

    @property
    def url(self) -> str:
        """The page for people, and the base URL for Grafana."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def settings(self) -> Path:
        """The settings in use; SIGHUP has them read again."""
        return self.home.data(self.name) / "prometheus.yml"

    def prepare(self) -> Iterator[Launch]:
        """Write the settings and what to scrape."""
        folder = self.home.data(self.name)
        folder.mkdir(mode=0o700, exist_ok=True)
        listed = (Target(self.name, self.name, self.port), *self.targets)
        write_atomically(folder / "targets.json", targets_text(listed))
        write_atomically(self.settings, settings_text(RULES, folder / "targets.json"))
        yield from ()

    def launch(self) -> Launch:
        """Start it. Its interfaces that delete data or end it stay closed, as they are by default."""
        arguments = (
            f"--config.file={self.settings}",
            f"--storage.tsdb.path={self.home.data(self.name) / 'data'}",
            *_RETENTION,
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--log.level=warn",
        )
        return Launch(argv=(program(), *arguments), log=self.home.log(self.name))

    def ready(self) -> bool:
        """Ask it."""
        return get(self.port, "/-/ready") is not None


@dataclass(frozen=True, slots=True)
class Watch:
    """How many of a Prometheus's targets answer; `down` names the others."""

    targets: int
    down: tuple[str, ...]

    @property
    def up(self) -> int:
        """How many answer."""
        return self.targets - len(self.down)


def status_line(port: int) -> str:
    """Return what a look at its targets finds, in a line."""
    found = watch(port)
    if found is None:
        return f"prometheus http://{LOOPBACK}:{port}: does not answer"
    down = f"; down: {', '.join(found.down)}" if found.down else ""
    return f"prometheus http://{LOOPBACK}:{port}: {found.up} of {found.targets} targets up{down}"


def program() -> str:
    """Return the path of `prometheus`; raise `ConfigError` where the machine has none."""
    if (path := shutil.which(PROMETHEUS)) is None:
        raise ConfigError("monitoring needs Prometheus, and this machine has none", cure=CURE)
    return path


def targets_text(targets: Iterable[Target]) -> str:
    """Return the file that Prometheus watches for what to scrape, in the form of its file_sd_config."""
    listed = [
        {
            "targets": [f"{LOOPBACK}:{each.port}"],
            "labels": {"job": each.job, "instance": each.instance, "__metrics_path__": each.path},
        }
        for each in targets
    ]
    return json.dumps(listed, indent=2) + "\n"


def settings_text(rules: Path, targets: Path, *, seconds: int = SCRAPE_SECONDS) -> str:
    """Return the settings: scrape what `targets` lists and judge `rules`, so often. JSON is YAML too."""
    settings: Mapping[str, object] = {
        "global": {
            "scrape_interval": f"{seconds}s",
            "scrape_timeout": f"{seconds}s",
            "evaluation_interval": f"{seconds}s",
        },
        "rule_files": [_literally(rules)],
        "scrape_configs": [{"job_name": "pipeline", "file_sd_configs": [{"files": [_literally(targets)]}]}],
    }
    # Characters beyond the 16-bit plane are escaped in two halves, which YAML does not read.
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def _literally(path: Path) -> str:
    """Return the pattern that matches this path alone: Prometheus takes paths for patterns."""
    return _PATTERN_SIGNS.sub(r"\\\g<0>", str(path))


def watch(port: int) -> Watch | None:
    """Ask a running Prometheus about its targets; None when it does not say."""
    with suppress(ValueError, KeyError, TypeError):
        answer = json.loads(get(port, "/api/v1/targets?state=active") or "")
        active = answer["data"]["activeTargets"]
        down = (each["labels"]["instance"] for each in active if each["health"] != "up")
        return Watch(len(active), tuple(sorted(down)))
    return None
