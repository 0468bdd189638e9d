"""What a service asks of the schema registry: the id of a schema, and the schema of an id.

The client of confluent-kafka answers the same, but loads an OAuth library for it: a third of the time in which a worker
is back after a kill (docs/adr/0062).
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from common.config import RegistrySettings, asking_directly, proxy_of, unusable_proxy
from onceloop.errors import Busy, ReportedError

TIMEOUT_SECONDS = 3
SCHEMA_NOT_FOUND = 40403
NOTHING_OF_THAT_NAME = {40401, 40402, SCHEMA_NOT_FOUND}
"""How the registry says that it has no such subject, version or schema."""
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"

C = TypeVar("C")


class RegistryRefusedError(Exception):
    """The registry, or what stands in its place, answered with an error. `error_code`: 0 unless it gives one."""

    def __init__(self, http_status_code: int, error_code: int, message: str) -> None:
        super().__init__(f"{message} (HTTP status code {http_status_code}, SR code {error_code})")
        self.http_status_code, self.error_code = http_status_code, error_code


class RegistryClient:
    """One connection. Raises httpx2.TransportError if nothing answers, RegistryRefusedError for an error."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def schema_id(self, subject: str, text: str) -> int | None:
        """Return the id under which the subject has exactly this Avro schema; None if it has not."""
        try:
            answer = self._ask("POST", f"subjects/{quote(subject, safe='')}", {"schema": text, "schemaType": "AVRO"})
            return int(answer["id"])
        except RegistryRefusedError as error:
            if error.error_code in NOTHING_OF_THAT_NAME:
                return None
            raise

    def schema_text(self, schema_id: int) -> str | None:
        """Return the schema with this id as JSON text; None if there is none."""
        try:
            return str(self._ask("GET", f"schemas/ids/{schema_id}")["schema"])
        except RegistryRefusedError as error:
            if error.error_code == SCHEMA_NOT_FOUND:  # a wrong address is answered by 404 too: no record's fault
                return None
            raise

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self._http.request(
            method,
            path,
            json=body,
            headers={"Accept": _CONTENT_TYPE, **({"Content-Type": _CONTENT_TYPE} if body else {})},
        )
        try:
            fields = answer.json()
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise RegistryRefusedError(answer.status_code, 0, "this is no answer of a schema registry")
        if not answer.is_success:
            raise RegistryRefusedError(
                answer.status_code, int(fields.get("error_code", 0)), str(fields.get("message", ""))
            )
        return fields


@contextmanager
def registry(settings: RegistrySettings) -> Iterator[RegistryClient]:
    """Yield a client; see `asked` for what it raises."""

    def build() -> httpx2.Client:
        # Loading the system's authorities takes a tenth of a second: over plain HTTP nothing asks for them.
        plain = settings.registry_url.startswith("http://") and not proxy_of(settings.registry_url)
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True  # such a context trusts no one
        return httpx2.Client(base_url=settings.registry_url, timeout=TIMEOUT_SECONDS, verify=trusted)

    with asked(settings, build, RegistryRefusedError) as http:
        yield RegistryClient(http)


@contextmanager
def asked(
    settings: RegistrySettings, build: Callable[[], AbstractContextManager[C]], refusal: type[Any]
) -> Iterator[C]:
    """Yield a client; while the registry is away what it raises becomes Busy, any other complaint ReportedError.

    `refusal`: the client's exception for an answer that is an error; it has an `http_status_code`. A proxy that stands
    in between is named. Raises ConfigError for one that cannot be used.
    """
    proxy = proxy_of(settings.registry_url)
    by_way = f", by way of the proxy {proxy}" if proxy else ""
    try:
        with _built(settings, build, proxy) as client:
            yield client
    except httpx2.TransportError as error:
        raise Busy(f"schema registry: {_in_words(error)}{by_way}") from error
    except refusal as error:
        if error.http_status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Busy(f"schema registry: HTTP {error.http_status_code}{by_way}") from error
        raise ReportedError(f"the schema registry refuses{by_way}: {error}", cure="look at its log") from error


def _built(
    settings: RegistrySettings, build: Callable[[], AbstractContextManager[C]], proxy: str
) -> AbstractContextManager[C]:
    try:
        with asking_directly(settings.registry_url):
            return build()
    except (ImportError, ValueError) as error:
        if not proxy:
            raise
        raise unusable_proxy("the schema registry", proxy, error) from error


def _in_words(error: BaseException) -> str:
    """Return the kind of a failed request; of a certificate that is not trusted, why."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate not trusted, {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
