"""The way to the schema registry on a machine whose environment names proxies and authorities, as a company's does."""

import json
import struct
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audit.errors import StoreDownError
from audit.readers.avro import Registry
from audit.readers.web import get_json
from common.config import RegistrySettings, asking_directly, proxy_of
from common.kafka.registry_client import registry
from common.kafka.schema_registry import open_codec
from common.topics import ORDERS_CREATED
from onceloop.errors import Busy, ConfigError, ReportedError
from tests.mail import certificate

# Nothing listens at port 9 of loopback: whatever goes by a proxy there fails.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy")
SCHEMA = {"schema": '"long"'}


class Answers(ThreadingHTTPServer):
    """Answers any GET with a schema; remembers what was asked for (a proxy: for a whole URL), and by whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.users: list[str] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Be quiet about clients that do not trust us."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.asked.append(self.path.partition("?")[0])
        self.server.users.append(b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode())
        body = json.dumps(SCHEMA if self.server.status == 200 else {"error_code": 1, "message": "no"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers() as answers:
        thread = threading.Thread(target=answers.serve_forever)
        thread.start()
        yield answers
        answers.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run excepts loopback for all others (conftest): no test could see what a user's machine does."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def at(host: str, port: int) -> RegistrySettings:
    return RegistrySettings(registry_url=f"http://{host}:{port}/apis/ccompat/v7")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/nowhere/company.pem"),
    ],
)
def test_registry_on_loopback_is_asked_directly_whatever_the_environment_names(
    server: Answers, monkeypatch: pytest.MonkeyPatch, host: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with registry(at(host, server.port)) as client:
        assert client.schema_text(1) == '"long"'
    assert server.asked == ["/apis/ccompat/v7/schemas/ids/1"]
    assert get_json(f"http://{host}:{server.port}/x", seconds=2) == (200, SCHEMA)


def test_registry_is_sent_its_user_and_password(server: Answers) -> None:
    settings = RegistrySettings(registry_url=f"http://svc:c4%2Fnary@127.0.0.1:{server.port}/v7")
    with registry(settings) as client:
        client.schema_text(1)
    assert (server.asked, server.users) == (["/v7/schemas/ids/1"], ["svc:c4/nary"])


def test_what_answers_but_is_no_registry_is_no_schema_that_is_unknown(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SCHEMA", ["a list"])
    with (
        pytest.raises(ReportedError, match="no answer of a schema registry"),
        registry(at("127.0.0.1", server.port)) as r,
    ):
        r.schema_text(1)


def test_registry_whose_certificate_is_not_trusted_says_so(server: Answers, tmp_path: Path) -> None:
    """As one that has expired: it was reported as "ConnectError"."""
    _, context = certificate(tmp_path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    settings = RegistrySettings(registry_url=f"https://127.0.0.1:{server.port}")
    with pytest.raises(Busy, match="certificate not trusted, self-signed"), registry(settings) as client:
        client.schema_text(1)


def test_registry_elsewhere_is_asked_by_way_of_the_proxy(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    with registry(at("registry.example", 8081)) as client:
        assert client.schema_text(1) == '"long"'
    assert server.asked == ["http://registry.example:8081/apis/ccompat/v7/schemas/ids/1"]
    assert get_json("http://registry.example:8081/x", seconds=2) == (200, SCHEMA)


def test_proxy_that_does_not_answer_is_named_with_the_registry__without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ada:c4nary@127.0.0.1:9")
    with pytest.raises(ReportedError) as raised:
        open_codec(at("registry.example", 8081), [ORDERS_CREATED])
    assert "by way of the proxy http://127.0.0.1:9" in raised.value.message
    assert "NO_PROXY" in raised.value.cure
    assert "c4nary" not in raised.value.message + raised.value.cure


@pytest.mark.parametrize(("status", "kind"), [(407, ReportedError), (502, Busy)])
def test_answer_of_a_proxy_names_the_proxy(
    server: Answers, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    server.status = status
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    with (
        pytest.raises(kind, match=f"proxy http://127\\.0\\.0\\.1:{server.port}"),
        registry(at("r.example", 80)) as client,
    ):
        client.schema_text(1)


def test_proxy_of_a_kind_that_the_client_does_not_know_is_a_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    with (
        pytest.raises(ConfigError, match=r"proxy socks5://proxy\.example:1080"),
        registry(at("registry.example", 8081)),
    ):
        raise AssertionError("no client")


def test_host_that_no_proxy_excepts_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert proxy_of("http://registry.example:8081") == "http://proxy.example:3128"
    monkeypatch.setenv("NO_PROXY", ".example")
    assert proxy_of("http://registry.example:8081") == ""


def test_what_is_hidden_from_a_client_is_back_once_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    with asking_directly("http://[::1]:8081"):
        assert proxy_of("https://shop.example") == ""
    with asking_directly("http://registry.example:8081"):
        assert proxy_of("https://shop.example") == "http://proxy.example:3128"
    assert proxy_of("https://shop.example") == "http://proxy.example:3128"


def ask_as_the_checker(url: str) -> str:
    """Have the checker look up a schema where none can be had; return what it says."""
    with pytest.raises(StoreDownError) as raised:
        Registry(url).decode(struct.pack(">bI", 0, 7), "OrderCreated")
    return f"{raised.value.message} {raised.value.cure}"


def test_checker_sends_the_registry_its_user_and_password(server: Answers) -> None:
    """Red before: urllib took them for a part of the host's name."""
    assert get_json(f"http://svc:c4%2Fnary@127.0.0.1:{server.port}/x", seconds=2) == (200, SCHEMA)
    assert (server.asked, server.users) == (["/x"], ["svc:c4/nary"])


def test_checker_shows_no_password_of_a_registry(server: Answers) -> None:
    """Red before: both messages repeated the URL as it was set."""
    server.status = 500
    said = ask_as_the_checker(f"http://svc:c4nary@127.0.0.1:{server.port}/v7")
    assert f"answers 500 at http://127.0.0.1:{server.port}/v7/schemas/ids/7" in said
    assert "c4nary" not in said
    said = ask_as_the_checker("http://svc:c4nary@127.0.0.1:9")
    assert "does not answer at http://127.0.0.1:9/schemas/ids/7" in said
    assert "c4nary" not in said


def test_checker_asks_a_registry_elsewhere_by_way_of_the_proxy_for_everything(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red before: urllib passes over ALL_PROXY, which the services heed."""
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{server.port}")
    assert get_json("http://registry.example:8081/x", seconds=2) == (200, SCHEMA)
    assert server.asked == ["http://registry.example:8081/x"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_checker_names_the_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Red before: the registry was blamed."""
    monkeypatch.setenv(variable, "http://ada:c4nary@127.0.0.1:9")
    said = ask_as_the_checker("http://registry.example:8081")
    assert "by way of the proxy http://127.0.0.1:9" in said
    assert "c4nary" not in said
