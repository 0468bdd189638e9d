"""`.env.example` and the settings classes say the same: every variable, its description, a value that would do."""

import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from common.config import PREFIX, KafkaSettings, Settings, load
from common.topics import INVENTORY
from onceloop.kafka.options import consumer_options, idempotent_producer_options, transactional_producer_options

ROOT = Path(__file__).parents[2]
PRODUCT = (
    "common",
    "onceloop",
    "order_service",
    "inventory_service",
    "notification_service",
    "metrics_service",
    "deploy",
    "chaos",
)
LINE = re.compile(rf"(?P<off># )?(?P<name>{PREFIX}[A-Z0-9_]+)=(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Example:
    """One variable as the file shows it. `said` is the comment above it."""

    name: str
    value: str
    required: bool
    said: str


def examples() -> Iterator[Example]:
    said: list[str] = []
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if found := LINE.fullmatch(line):
            yield Example(found["name"], shlex.split(found["value"])[0], found["off"] is None, " ".join(said))
        said = [*said, line.removeprefix("# ")] if line.startswith("# ") else []


def settings_classes() -> list[type[Settings]]:
    listed = subprocess.run(["git", "ls-files", "*config.py"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    for path in listed.stdout.splitlines():
        if path.startswith(PRODUCT):
            importlib.import_module(path.removesuffix(".py").replace("/", "."))
    return [each for each in _below(Settings) if each.__module__.startswith(PRODUCT)]


def _below(settings: type[Settings]) -> Iterator[type[Settings]]:
    yield settings
    for each in settings.__subclasses__():
        yield from _below(each)


CLASSES = settings_classes()
FIELDS: dict[str, FieldInfo] = {
    f"{PREFIX}{name.upper()}": field for settings in CLASSES for name, field in settings.model_fields.items()
}
SHOWN = {each.name: each for each in examples()}


def shown(variable: str) -> Example:
    """Return the line of a variable; a secret is shown as the file it should stand in."""
    secret = FIELDS[variable].annotation is SecretStr
    return SHOWN[f"{variable}_FILE" if secret else variable]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Set everything that the file shows; the files that it names hold a secret."""
    secret = tmp_path / "secret"
    secret.write_text("secret\n", encoding="utf-8")
    for each in SHOWN.values():
        is_secret = each.name.removesuffix("_FILE") in FIELDS and each.name.endswith("_FILE")
        monkeypatch.setenv(each.name, str(secret) if is_secret else each.value)
    return monkeypatch


def test_there_are_classes_and_lines_to_compare() -> None:
    assert {"ApiSettings", "InventorySettings", "NotificationSettings", "ProvisionSettings"} <= {
        each.__name__ for each in CLASSES
    }
    assert len(SHOWN) > 30


@pytest.mark.parametrize("variable", FIELDS)
def test_every_setting_is_shown_with_its_description(variable: str) -> None:
    description = FIELDS[variable].description
    assert description, variable
    assert shown(variable).said.startswith(description)


@pytest.mark.parametrize("name", SHOWN)
def test_every_line_is_a_setting(name: str) -> None:
    assert name in FIELDS or FIELDS[name.removesuffix("_FILE")].annotation is SecretStr


@pytest.mark.parametrize("variable", FIELDS)
def test_what_must_be_set_stands_uncommented_and_nothing_else(variable: str) -> None:
    assert shown(variable).required == FIELDS[variable].is_required()


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("settings", CLASSES, ids=lambda each: str(each.__name__))
def test_file_as_it_stands_is_taken(settings: type[Settings]) -> None:
    assert isinstance(load(settings), settings)


@pytest.mark.parametrize("settings", CLASSES, ids=lambda each: str(each.__name__))
def test_examples_of_the_classes_would_do(settings: type[Settings], environment: pytest.MonkeyPatch) -> None:
    for name, field in settings.model_fields.items():
        for example in field.examples or []:
            _takes(settings, environment, name, example)


def _takes(settings: type[Settings], environment: pytest.MonkeyPatch, name: str, example: Any) -> None:
    with environment.context() as once:
        once.setenv(f"{PREFIX}{name.upper()}", str(example))
        load(settings)


@pytest.mark.usefixtures("environment")
def test_client_options_shown_pass_the_guard() -> None:
    settings = load(KafkaSettings)
    assert (
        consumer_options(settings.kafka, group_id=INVENTORY.within(settings.namespace), slot=0)["session.timeout.ms"]
        == 10_000
    )
    assert (
        transactional_producer_options(
            settings.kafka, transactional_id=f"{Group('inventory').within(settings.namespace)}-{0}"
        )["transaction.timeout.ms"]
        == 10_000
    )
    assert idempotent_producer_options(settings.kafka)["security.protocol"] == "SASL_SSL"
