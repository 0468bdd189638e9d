"""Settings that would betray a password are refused before anything connects."""

from typing import Any

import pytest

from common.config import load
from notification_service.config import NotificationSettings
from onceloop.errors import ConfigError

REQUIRED = {
    "PIPELINE_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "PIPELINE_REGISTRY_URL": "http://127.0.0.1:8081",
    "PIPELINE_POSTGRES_URL": "postgresql://notification_rw@127.0.0.1:5432/pipeline",
    "PIPELINE_SMTP_USER": "shop",
}


def settings(monkeypatch: pytest.MonkeyPatch, **more: Any) -> NotificationSettings:
    for name, value in {**REQUIRED, **more}.items():
        monkeypatch.setenv(name, value)
    return load(NotificationSettings)


def test_login_over_plain_text_is_refused_naming_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"PIPELINE_SMTP_USER.*PIPELINE_SMTP_TLS=starttls"):
        settings(monkeypatch, PIPELINE_SMTP_HOST="smtp.shop.example")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_login_over_plain_text_is_taken_on_loopback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert settings(monkeypatch, PIPELINE_SMTP_HOST=host).smtp_user == "shop"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_login_over_tls_is_taken(monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    assert settings(monkeypatch, PIPELINE_SMTP_HOST="smtp.shop.example", PIPELINE_SMTP_TLS=tls).smtp_user == "shop"


def test_domain_of_the_sender_ends_the_message_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, PIPELINE_MAIL_FROM="orders@tea.example").mail_domain == "tea.example"
