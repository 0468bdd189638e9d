"""Settings: refused before anything connects, naming the variable and a good value, never a secret."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr

from common.config import KafkaSettings, PostgresSettings, Settings, WorkerSettings, load
from onceloop.errors import ConfigError, ExitCode
from onceloop.probe_server import with_port

GOOD = {
    "PIPELINE_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "PIPELINE_REGISTRY_URL": "http://127.0.0.1:8081/apis/ccompat/v7",
    "PIPELINE_POSTGRES_URL": "postgresql://inventory_rw@127.0.0.1:5432/pipeline",
}
SECRET = "hunter2-and-more"


class AllSettings(WorkerSettings, PostgresSettings):
    """What the largest service asks for."""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)


def setenv(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def refusal(settings: type[Settings] = AllSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        load(settings)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert caught.value.cure
    return caught.value.message


def test_good_settings_are_read_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, GOOD)
    found = load(AllSettings)
    assert (found.namespace, found.slot, found.log_format) == ("", 0, "json")
    assert found.kafka_bootstrap == "127.0.0.1:9092"


def test_everything_that_is_missing_is_named_at_once_with_a_good_value() -> None:
    lines = refusal().splitlines()
    assert {line.partition(":")[0] for line in lines} == GOOD.keys()
    for line in lines:
        assert "is not set" in line
        assert f"for example {line.partition(':')[0]}=" in line


def test_examples_in_messages_are_themselves_good(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in refusal().splitlines():
        name, _, value = line.partition("for example ")[2].rstrip(")").partition("=")
        monkeypatch.setenv(name, value)
    load(AllSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIPELINE_KAFKA_BOOTSTRAP", "127.0.0.1"),
        ("PIPELINE_KAFKA_BOOTSTRAP", "kafka://127.0.0.1:9092"),
        ("PIPELINE_KAFKA_BOOTSTRAP", "a:9092, b:9092"),
        ("PIPELINE_KAFKA_BOOTSTRAP", ""),
        ("PIPELINE_REGISTRY_URL", "127.0.0.1:8081"),
        ("PIPELINE_POSTGRES_URL", "mysql://rw@127.0.0.1/pipeline"),
        ("PIPELINE_POSTGRES_URL", "postgresql://127.0.0.1/pipeline"),
        ("PIPELINE_POSTGRES_URL", "postgresql://rw@127.0.0.1"),
        ("PIPELINE_NAMESPACE", "Staging"),
        ("PIPELINE_NAMESPACE", "a.b"),
        ("PIPELINE_NAMESPACE", "n" * 41),
        ("PIPELINE_SLOT", "-1"),
        ("PIPELINE_SLOT", "1000"),
        ("PIPELINE_SLOT", "one"),
        ("PIPELINE_HEALTH_PORT", "65536"),
        ("PIPELINE_LOG_FORMAT", "xml"),
        ("PIPELINE_LOG_LEVEL", "INFO"),
        ("PIPELINE_KAFKA_OPTIONS", "[1]"),
        ("PIPELINE_KAFKA_OPTIONS", '{"a": {"b": 1}}'),
        ("PIPELINE_KAFKA_OPTIONS", "acks=all"),
        ("PIPELINE_KAFKA_CONSUMER_OPTIONS", "{"),
        ("PIPELINE_KAFKA_PRODUCER_OPTIONS", "null"),
    ],
)
def test_wrong_value_is_refused_naming_the_variable_and_a_good_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    setenv(monkeypatch, {**GOOD, name: value})
    message = refusal()
    assert message.startswith(f"{name}:")
    assert f"for example {name}=" in message
    assert len(message.splitlines()) == 1


def test_password_in_the_url_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, {**GOOD, "PIPELINE_POSTGRES_URL": f"postgresql://rw:{SECRET}@127.0.0.1/pipeline"})
    message = refusal()
    assert message.startswith("PIPELINE_POSTGRES_URL:")
    assert SECRET not in message


@pytest.mark.parametrize(
    "options", [f'{{"sasl.password": ["{SECRET}"]}}', f'{{"sasl.password": "{SECRET}"', f"sasl.password={SECRET}"]
)
def test_secret_inside_a_malformed_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    setenv(monkeypatch, {**GOOD, "PIPELINE_KAFKA_OPTIONS": options})
    assert SECRET not in refusal()


def test_secret_is_not_shown_by_printing_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, {**GOOD, "PIPELINE_POSTGRES_PASSWORD": SECRET})
    found = load(AllSettings)
    assert found.postgres_password.get_secret_value() == SECRET
    assert SECRET not in f"{found} {found!r} {found.model_dump()}"


def test_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET + "\n", encoding="utf-8")
    setenv(monkeypatch, {**GOOD, "PIPELINE_POSTGRES_PASSWORD_FILE": str(tmp_path / "password")})
    assert load(AllSettings).postgres_password.get_secret_value() == SECRET


def test_variable_wins_over_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from the file", encoding="utf-8")
    setenv(
        monkeypatch,
        {
            **GOOD,
            "PIPELINE_POSTGRES_PASSWORD_FILE": str(tmp_path / "password"),
            "PIPELINE_POSTGRES_PASSWORD": "from the variable",
        },
    )
    assert load(AllSettings).postgres_password.get_secret_value() == "from the variable"


def test_options_with_a_password_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text('{"sasl.password": "x"}', encoding="utf-8")
    setenv(monkeypatch, {**GOOD, "PIPELINE_KAFKA_OPTIONS_FILE": str(tmp_path / "options.json")})
    assert load(AllSettings).kafka_options == {"sasl.password": "x"}


def test_client_options_do_not_show_where_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("PIPELINE_KAFKA_OPTIONS", "PIPELINE_KAFKA_CONSUMER_OPTIONS", "PIPELINE_KAFKA_PRODUCER_OPTIONS")
    setenv(monkeypatch, {**GOOD, **dict.fromkeys(names, '{"sasl.password": "hidden"}')})
    settings = load(AllSettings)
    assert "hidden" not in f"{settings!r} {settings}"


def test_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setenv(monkeypatch, {**GOOD, "PIPELINE_POSTGRES_PASSWORD_FILE": str(tmp_path / "absent")})
    message = refusal()
    assert message.startswith("PIPELINE_POSTGRES_PASSWORD_FILE:")
    assert str(tmp_path / "absent") in message


def test_file_that_holds_no_text_is_named_and_its_content_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe" + SECRET.encode())
    setenv(monkeypatch, {**GOOD, "PIPELINE_POSTGRES_PASSWORD_FILE": str(tmp_path / "password")})
    message = refusal()
    assert message.startswith("PIPELINE_POSTGRES_PASSWORD_FILE:")
    assert SECRET not in message


def test_variables_of_others_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, {**GOOD, "PIPELINE_OF_SOMEONE_ELSE": "x", "KAFKA_BOOTSTRAP": "elsewhere:1"})
    assert load(KafkaSettings).kafka_bootstrap == "127.0.0.1:9092"


def test_settings_cannot_be_changed_once_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    setenv(monkeypatch, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        load(AllSettings).slot = 1  # type: ignore[misc]


def test_every_setting_states_its_purpose_and_an_example() -> None:
    for name, field in AllSettings.model_fields.items():
        assert field.description, name
        assert field.examples, name


def test_service_adds_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Settings):
        token: SecretStr = Field(description="What opens the door.", examples=["(a file's content)"])

    assert refusal(Own).startswith("PIPELINE_TOKEN: is not set")
    monkeypatch.setenv("PIPELINE_TOKEN", SECRET)
    assert load(Own).token.get_secret_value() == SECRET


@pytest.mark.parametrize("brokers", ["[::1]:9092", "kafka-0:9092,[fe80::1%eth0]:9093", "[::ffff:127.0.0.1]:9092"])
def test_brokers_may_have_addresses_of_ipv6(monkeypatch: pytest.MonkeyPatch, brokers: str) -> None:
    setenv(monkeypatch, GOOD | {"PIPELINE_KAFKA_BOOTSTRAP": brokers})
    assert load(AllSettings).kafka_bootstrap == brokers


@pytest.mark.parametrize("brokers", ["::1:9092", "[::1]", "[::1:9092", "[nothex]:9092", "host:port"])
def test_broker_whose_port_is_unclear_is_refused(monkeypatch: pytest.MonkeyPatch, brokers: str) -> None:
    setenv(monkeypatch, GOOD | {"PIPELINE_KAFKA_BOOTSTRAP": brokers})
    assert "PIPELINE_KAFKA_BOOTSTRAP" in refusal()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_host_of_ipv6_is_taken_with_and_without_brackets(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    setenv(monkeypatch, GOOD | {"PIPELINE_HEALTH_HOST": host})
    assert load(AllSettings).health_host == "::1"
    assert with_port(load(AllSettings).health_host, 9102) == "[::1]:9102"
    assert with_port("127.0.0.1", 9102) == "127.0.0.1:9102"


def test_database_and_registry_may_be_at_addresses_of_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://inventory_rw@[::1]:5432/pipeline"
    setenv(monkeypatch, GOOD | {"PIPELINE_POSTGRES_URL": url, "PIPELINE_REGISTRY_URL": "http://[::1]:8081/apis"})
    assert load(AllSettings).postgres_url == url
    assert sa.make_url(url).host == "::1"
    assert conninfo_to_dict(url)["host"] == "::1"


def test_secret_that_is_replaced_in_its_file_is_the_new_one_from_then_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A password that was rotated kept a service out of its database until it was restarted."""
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    setenv(monkeypatch, GOOD | {"PIPELINE_POSTGRES_PASSWORD_FILE": str(file)})
    settings = load(AllSettings)
    assert settings.secret("postgres_password") == SECRET
    file.write_text("the next one\n")
    assert settings.secret("postgres_password") == "the next one"
    assert settings.model_copy(update={"slot": 1}).secret("postgres_password") == "the next one"
    file.unlink()
    assert settings.secret("postgres_password") == SECRET
    assert "next" not in repr(settings)


def test_secret_that_is_no_files_stays_as_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of another role\n")
    variables = GOOD | {"PIPELINE_POSTGRES_PASSWORD_FILE": str(file)}
    setenv(monkeypatch, variables)
    given = AllSettings(postgres_password=SecretStr(SECRET))  # the rest is the environment's
    assert given.secret("postgres_password") == SECRET
    monkeypatch.setenv("PIPELINE_POSTGRES_PASSWORD", SECRET)
    assert load(AllSettings).secret("postgres_password") == SECRET
