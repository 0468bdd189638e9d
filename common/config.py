"""Base settings: the only reader of environment variables and secret files.

Every variable starts with `PIPELINE_`. A secret may stand in a file instead: `PIPELINE_X_FILE` names the file that
holds `PIPELINE_X`. `load` validates all of a service's settings before anything connects.
"""

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from onceloop.config import KafkaConfig
from onceloop.errors import ConfigError

PREFIX = "PIPELINE_"


class _SecretFiles(PydanticBaseSettingsSource):
    """Read `PIPELINE_X` from the file that `PIPELINE_X_FILE` names; the variable itself wins."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return the file's text without its trailing newline, or None."""
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        if path is None:
            return None, field_name, False
        try:
            return _text_of(Path(path)), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"{PREFIX}{field_name.upper()}_FILE: cannot read {path}: {why}",
                cure="name a file that this user can read, for example /run/secrets/postgres",
            ) from None  # a decoding error carries the content

    def __call__(self) -> dict[str, Any]:
        """Return the fields that have a file."""
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, _ = self.get_field_value(field, name)
            if value is not None:
                found[name] = value
        return found


def _text_of(secret_file: Path) -> str:
    return secret_file.read_text(encoding="utf-8").rstrip("\n")


class Settings(BaseSettings):
    """What every process has: a namespace and its log."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    namespace: str = Field(
        default="",
        pattern=r"^[a-z0-9-]{0,40}$",
        description="Put in front of topics, consumer groups and transactional ids; empty for none.",
        examples=["staging"],
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object per line, or text for eyes.", examples=["console"]
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written.", examples=["info"]
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order: arguments, environment, files named by `_FILE`."""
        return init_settings, env_settings, _SecretFiles(settings_cls)

    _secret_files: dict[str, Path] = PrivateAttr(default_factory=dict)

    def secret(self, name: str) -> str:
        """Return a secret as it is now: one that came from a file is read again, since it may have been replaced.

        What was read at the start stands where the file cannot be read.
        """
        at_start = str(getattr(self, name).get_secret_value())
        if (file := self._secret_files.get(name)) is None:
            return at_start
        try:
            return _text_of(file)
        except (OSError, UnicodeDecodeError):
            return at_start


def _without_brackets(value: Any) -> Any:
    """Return an IPv6 address as sockets take it; brackets belong to where a port follows."""
    return value[1:-1] if isinstance(value, str) and value.startswith("[") and value.endswith("]") else value


Host = Annotated[str, BeforeValidator(_without_brackets)]
"""A host's name or address, an IPv6 one with or without brackets."""


def _parse_options(value: Any) -> Any:
    """Return the mapping that a variable or a file holds as JSON; the text may hold a secret and is not repeated."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if not isinstance(parsed, Mapping) or not all(isinstance(each, str | int | float) for each in parsed.values()):
        raise ValueError("is not a JSON object of option names and plain values")
    return parsed


ClientOptions = Annotated[Mapping[str, str | int | float | bool], NoDecode, BeforeValidator(_parse_options)]


def _addressable(url: str) -> str:
    """Return the URL; refuse one that a client could not take apart and would repeat with its password."""
    try:
        host, _ = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        host = None
    if not host:
        raise ValueError(
            "must have one host, and a number as its port if it has one; / ? # of a password are written %2F %3F %23"
        )
    return url


class RegistrySettings(Settings):
    """Where the schema registry is, and what is kept for the time when it is away."""

    registry_url: Annotated[str, AfterValidator(_addressable)] = Field(
        pattern=r"^https?://",
        repr=False,  # may hold a password
        description="Schema Registry with the Confluent API; with a password, better in PIPELINE_REGISTRY_URL_FILE.",
        examples=["http://127.0.0.1:8081/apis/ccompat/v7"],
    )
    schema_cache_dir: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        default=None,
        description="Folder for what the registry confirmed: with it a process starts while the registry is away."
        " It belongs to the registry's data and is emptied with it. Without one, such a process waits.",
        examples=["/var/cache/order-pipeline"],
    )
    schema_cache_days: int = Field(
        default=7, ge=1, le=365, description="How long what is stored there is believed.", examples=[7]
    )

    @property
    def registry_address(self) -> str:
        """The registry's URL without user and password: for messages, and for files that others may read."""
        return without_credentials(self.registry_url)


_BROKER = r"([^,\s/:\[\]]+|\[[0-9A-Fa-f:.]+(%[^,\s/\[\]]+)?\]):\d+"


class KafkaSettings(RegistrySettings):
    """Where the broker and the registry are."""

    kafka_bootstrap: str = Field(
        pattern=rf"^{_BROKER}(,{_BROKER})*$",
        description="Brokers to start from, host:port, separated by commas; an IPv6 address in brackets.",
        examples=["127.0.0.1:9092"],
    )
    kafka_options: ClientOptions = Field(
        default_factory=dict,
        repr=False,  # may hold sasl.password
        description="librdkafka options for every client, as JSON: security, tuning. Unsafe ones are refused.",
        examples=['{"security.protocol": "SASL_SSL"}'],
    )
    kafka_consumer_options: ClientOptions = Field(
        default_factory=dict,
        repr=False,  # may hold sasl.password
        description="librdkafka options for consumers alone, as JSON.",
        examples=['{"session.timeout.ms": 10000}'],
    )
    kafka_producer_options: ClientOptions = Field(
        default_factory=dict,
        repr=False,  # may hold sasl.password
        description="librdkafka options for producers alone, as JSON.",
        examples=['{"transaction.timeout.ms": 10000}'],
    )

    @property
    def kafka(self) -> KafkaConfig:
        """Return the brokers and options, as the loops take them."""
        return KafkaConfig(
            self.kafka_bootstrap,
            self.kafka_options,
            self.kafka_consumer_options,
            self.kafka_producer_options,
            origin=f"{PREFIX}KAFKA_*OPTIONS",
        )


class PostgresSettings(Settings):
    """Where the database is; one role per service."""

    postgres_url: str = Field(
        pattern=r"^postgresql://[^:@/]+@[^/]+/[^/]+$",
        description="Role, host, port and database; the password goes into its own variable.",
        examples=["postgresql://inventory_rw@127.0.0.1:5432/pipeline"],
    )
    postgres_password: SecretStr = Field(
        default=SecretStr(""),
        description="The role's password; better: PIPELINE_POSTGRES_PASSWORD_FILE.",
        examples=["(a file's content)"],
    )

    def password(self) -> str:
        """Return the role's password as it is now."""
        return self.secret("postgres_password")


class HealthSettings(Settings):
    """Where a process without an HTTP API of its own reports how it is."""

    health_host: Host = Field(
        default="127.0.0.1", description="Where /livez, /readyz, /metrics listen.", examples=["127.0.0.1"]
    )
    health_port: int = Field(default=0, ge=0, le=65535, description="Their port; 0 takes a free one.", examples=[9102])


class WorkerSettings(KafkaSettings, HealthSettings):
    """What a worker has: a slot and a health port."""

    slot: int = Field(
        default=0,
        ge=0,
        le=999,
        description="Number of this worker, one live process per number: it names its static member and transactions.",
        examples=[0],
    )


S = TypeVar("S", bound=Settings)


def load(settings: type[S]) -> S:
    """Read and validate; nothing has connected yet.

    Raises ConfigError that names each wrong variable, what is wrong with it, and a value that would do.
    """
    try:
        found = settings()
    except ValidationError as error:
        raise ConfigError("\n".join(_complaints(settings, error)), cure="set it, then start again") from None
    found._secret_files.update(_secret_files(settings))  # noqa: SLF001 - of this module's own class
    return found


def _secret_files(settings: type[Settings]) -> Iterator[tuple[str, Path]]:
    """Yield each setting that came from a file, and that file."""
    for name in settings.model_fields:
        variable = f"{PREFIX}{name.upper()}"
        if variable not in os.environ and (path := os.environ.get(f"{variable}_FILE")) is not None:
            yield name, Path(path)


def set_for_libraries(name: str, value: str) -> None:
    """Set a variable that a library reads when it is imported, for this process and those that it starts."""
    os.environ[name] = value


def is_loopback(host: str) -> bool:
    """Return True for an address or name that leads back to this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_CREDENTIALS = re.compile(r"://(?:(?!://).)*@")


def without_credentials(url: str) -> str:
    """Return the URL, or several separated by commas, without users and passwords, even badly escaped ones."""
    return _CREDENTIALS.sub("://", url)


def proxy_of(url: str) -> str:
    """Return the proxy by whose way an HTTP client asks this URL, without credentials; empty: directly.

    The usual variables say so (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY). Loopback is never asked by way of one.
    """
    asked = urlsplit(url)
    if is_loopback(asked.hostname or "") or proxy_bypass(asked.hostname or ""):
        return ""
    proxies = getproxies()
    proxy = proxies.get(asked.scheme) or proxies.get("all") or ""
    scheme, separator, rest = proxy.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


_DIRECTLY = threading.Lock()
_OF_THE_WAY_OUT = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"})


@contextmanager
def asking_directly(url: str) -> Iterator[None]:
    """Where a URL leads to loopback, hide proxies and authorities from a client that is built inside.

    Such a client reads them when it is built, even those that it will not use, and one that is malformed ends it.
    """
    if not is_loopback(urlsplit(url).hostname or ""):
        yield
        return
    with _DIRECTLY:
        hidden = {name: value for name, value in os.environ.items() if name.lower() in _OF_THE_WAY_OUT}
        for name in hidden:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(hidden)


def unusable_proxy(server: str, proxy: str, error: Exception) -> ConfigError:
    """Return what to raise for a kind of proxy that the HTTP client does not know."""
    return ConfigError(
        f"{server} cannot be asked by way of the proxy {proxy}: {type(error).__name__}",
        cure="name a proxy that begins with http:// in HTTP_PROXY and HTTPS_PROXY, or the host in NO_PROXY",
    )


def _complaints(settings: type[Settings], error: ValidationError) -> list[str]:
    """Return one line per wrong variable; values are left out, since one may be a secret."""
    lines = []
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        field = settings.model_fields.get(name)
        variable = f"{PREFIX}{name.upper()}" if name else settings.__name__
        examples = field.examples if field is not None and field.examples else []
        hint = f" (for example {variable}={_shown(examples[0])})" if examples else ""
        what = "is not set" if detail["type"] == "missing" else detail["msg"]
        lines.append(f"{variable}: {what}{hint}")
    return lines


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example)
