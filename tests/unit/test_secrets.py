"""A canary in every setting that may hold a secret, looked for in all that is shown of settings."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from common.config import RegistrySettings, Settings, load, without_credentials
from deploy.exporter.config import ExporterSettings
from deploy.provision.config import ProvisionSettings
from inventory_service.config import InventorySettings
from metrics_service.config import MetricsSettings
from notification_service.config import NotificationSettings
from onceloop.errors import ConfigError
from order_service.config import ApiSettings, ProjectionSettings

CANARY = "hunter2-and-more"
ALL = (
    ApiSettings,
    ExporterSettings,
    InventorySettings,
    MetricsSettings,
    NotificationSettings,
    ProjectionSettings,
    ProvisionSettings,
)


def planted(settings: type[BaseSettings]) -> Iterator[tuple[str, Any]]:
    """Return a value with the canary for each field that may hold a secret."""
    for name, field in settings.model_fields.items():
        if field.annotation is SecretStr:
            yield name, SecretStr(CANARY)
        elif name.endswith("_options"):
            yield name, {"sasl.password": CANARY}
        elif name in {"registry_url", "connect_url"}:
            yield name, f"http://svc:{CANARY}@registry.internal:8081/apis?x=y"


@pytest.mark.parametrize("settings", ALL)
def test_no_secret_is_in_what_settings_say_of_themselves(settings: type[Settings]) -> None:
    fields = dict(planted(settings))
    assert fields
    found = settings.model_construct(**fields)
    assert CANARY not in repr(found)
    assert CANARY not in str(found)


def test_address_of_a_registry_is_shown_without_its_user_and_password() -> None:
    found = RegistrySettings(registry_url=f"https://svc:{CANARY}@registry.internal:8443/apis/v7")
    assert found.registry_address == "https://registry.internal:8443/apis/v7"
    assert RegistrySettings(registry_url="http://[::1]:8081").registry_address == "http://[::1]:8081"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"http://u:{CANARY}@a:8081,http://u:{CANARY}@b:8081", "http://a:8081,http://b:8081"),
        (f"http://svc:12/{CANARY}@host/x", "http://host/x"),
        (f"http://svc:{CANARY}@{CANARY}?#@host", "http://host"),
        ("http://host/a", "http://host/a"),
    ],
)
def test_no_password_is_shown_whatever_characters_it_is_of(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    "url",
    [f"http://svc:{CANARY}/x@host", "http://[::1", "http://", "http://svc:x@:8081", "http://a:8081,http://b:8081"],
)
def test_address_that_a_client_cannot_take_apart_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Red before: the client raised an error with a part of the password in it."""
    monkeypatch.setenv("PIPELINE_REGISTRY_URL", url)
    with pytest.raises(ConfigError, match="%2F") as refused:
        load(RegistrySettings)
    assert CANARY not in str(refused.value)
