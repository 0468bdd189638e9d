"""The connectors of Kafka Connect: read from `deploy/connect`, filled in, handed to a worker over its REST API.

A file is named like its connector and holds its configuration. `{{name}}` in it stands for what differs from one
installation to the next: `namespace` (with its dot), `registry` (its origin), `postgres` (host:port), `database`,
`credentials` (the path, on the workers, of the file with the passwords). Passwords come neither here nor into Kafka:
`${file:...}` is Connect's own and is replaced by the worker that runs the connector.
"""

import json
import re
import time
from collections.abc import Mapping
from importlib import resources
from urllib.parse import urlsplit

import httpx2

from common.config import asking_directly, proxy_of, unusable_proxy, without_credentials
from common.topics import SINKS, Sink
from deploy.provision.config import ProvisionSettings
from onceloop.errors import ConfigError, FatalError, ReportedError

Configuration = dict[str, str]

_HOLE = re.compile(r"\{\{(\w+)\}\}")
_REQUEST_SECONDS = 10.0
_SETTLE_SECONDS = 30.0
"""How long the workers may take to agree who leads them: until then they answer 409."""
_PAUSE_SECONDS = 0.3
_CONFLICT, _NOT_FOUND = 409, 404


def wanted(settings: ProvisionSettings) -> dict[str, Configuration]:
    """Return connector -> configuration for the stores of the settings."""
    holes = values(settings)
    return {name_within(sink, settings.namespace): fill(template(sink), holes) for sink in chosen(settings)}


def chosen(settings: ProvisionSettings) -> tuple[Sink, ...]:
    """Return the sinks of the stores that the settings ask for."""
    stores = settings.connect_stores.split(",")
    return tuple(sink for sink in SINKS if sink.store in stores)


def name_within(sink: Sink, namespace: str) -> str:
    """Return the connector's name: its group's, which the namespace distinguishes from others on the same workers."""
    return sink.group.within(namespace)


def template(sink: Sink) -> str:
    """Return the text of a connector's file."""
    return resources.files("deploy").joinpath("connect", f"{sink.group.name}.json").read_text(encoding="utf-8")


def values(settings: ProvisionSettings) -> dict[str, str]:
    """Return what stands for each name in the files.

    Raises ConfigError for a registry's password: the configurations can be read over the workers' REST API.
    """
    if "@" in urlsplit(settings.registry_url).netloc:
        raise ConfigError(
            "PIPELINE_REGISTRY_URL: connectors cannot be given a registry's user and password yet",
            cure="provision the connectors with a registry that asks for none",
        )
    registry, postgres = urlsplit(settings.registry_url), urlsplit(settings.postgres_admin_url)
    return {
        "namespace": f"{settings.namespace}." if settings.namespace else "",
        "registry": f"{registry.scheme}://{registry.netloc}",
        "postgres": postgres.netloc.rpartition("@")[2],
        "database": settings.database,
        "credentials": settings.connect_credentials,
    }


def fill(text: str, holes: Mapping[str, str]) -> Configuration:
    """Return the configuration that a file's text is with each `{{name}}` replaced; refuse an unknown name."""
    parsed: Configuration = json.loads(text)
    return {option: _HOLE.sub(lambda hole: _value(hole[1], holes), value) for option, value in parsed.items()}


def put(settings: ProvisionSettings) -> tuple[str, ...]:
    """Bring the connectors to what the files say, and set those going again that gave up; return what was changed.

    Raises FatalError if no worker answers, ReportedError if it refuses a configuration.
    """
    with _client(settings.connect_url) as client:
        workers = _Workers(client)
        return tuple(name for name, configuration in wanted(settings).items() if workers.bring(name, configuration))


def _client(url: str) -> httpx2.Client:
    try:
        with asking_directly(url):
            return httpx2.Client(base_url=url, timeout=_REQUEST_SECONDS)
    except (ImportError, ValueError) as error:
        if not (proxy := proxy_of(url)):
            raise
        raise unusable_proxy("Kafka Connect", proxy, error) from error


def _value(name: str, holes: Mapping[str, str]) -> str:
    if name not in holes:
        raise ConfigError(f"deploy/connect: nothing is known for {{{{{name}}}}}", cure=f"one of: {', '.join(holes)}")
    return holes[name]


class _Workers:
    """The REST API of the workers; each call waits until they have settled who leads."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def bring(self, name: str, configuration: Configuration) -> bool:
        """Create or change the connector unless it is so already, or failed; return whether anything was done."""
        standing = self._call("GET", f"/connectors/{name}/config")
        if standing.status_code != _NOT_FOUND and standing.json() == {**configuration, "name": name}:
            return self._restart_failed(name)
        answer = self._call("PUT", f"/connectors/{name}/config", configuration)
        if answer.is_error:
            raise ReportedError(
                f"Connect refuses {name}: {answer.json().get('message', answer.text)}",
                cure=f"correct deploy/connect/{name}.json",
            )
        return True

    def _restart_failed(self, name: str) -> bool:
        status = self._call("GET", f"/connectors/{name}/status")
        if status.is_error or "FAILED" not in status.text:
            return False
        self._call("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")
        return True

    def _call(self, method: str, path: str, body: Configuration | None = None) -> httpx2.Response:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            try:
                answer = self._client.request(method, path, json=body)
            except httpx2.TransportError as error:
                url = str(self._client.base_url)
                proxy = proxy_of(url)
                raise FatalError(
                    f"Kafka Connect does not answer at {without_credentials(url)}: {error}"
                    + (f", by way of the proxy {proxy}" if proxy else ""),
                    cure="start it, or correct PIPELINE_CONNECT_URL" + ("; or set NO_PROXY for it" if proxy else ""),
                ) from error
            if answer.status_code != _CONFLICT or time.monotonic() > deadline:
                return answer
            time.sleep(_PAUSE_SECONDS)
