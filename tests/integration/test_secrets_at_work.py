"""A canary in every secret of every program, with all servers away: it is in nothing that the program shows.

Not in its log, at any level, nor in its answers, nor in what `ps` shows. Settings alone: tests/unit/test_secrets.py.
"""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from deploy.provision.roles import ROLES
from services.table import API, SERVICES
from tests.processes import Process, Processes, wait_for

CANARY = "hunter2-and-more"
PROGRAMS = {
    **{" ".join(service.program): service.role or "" for service in SERVICES},
    "deploy.cli.main provision": "",
}
API_PROGRAM = " ".join(API.program)
GIVES_UP_SECONDS = 60.0


def environment(folder: Path, processes: Processes, role: str) -> dict[str, str]:
    """Return settings with the canary in each secret; nothing listens where they lead."""
    away = f"127.0.0.1:{processes.free_port()}"
    secret_file = folder / "secret"
    secret_file.write_text(CANARY)
    (folder / "roles").mkdir(exist_ok=True)
    for each in ROLES:
        (folder / "roles" / each.name).write_text(CANARY)
    login = {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "svc",
        "sasl.password": CANARY,
    }
    return {
        "PIPELINE_KAFKA_BOOTSTRAP": away,
        "PIPELINE_KAFKA_OPTIONS": json.dumps(login),
        "PIPELINE_REGISTRY_URL": f"http://svc:{CANARY}@{away}/apis/ccompat/v7",
        "PIPELINE_CONNECT_URL": f"http://svc:{CANARY}@{away}",
        "PIPELINE_POSTGRES_URL": f"postgresql://{role or 'guest'}@{away}/pipeline",
        "PIPELINE_POSTGRES_PASSWORD": CANARY,
        "PIPELINE_POSTGRES_ADMIN_URL": f"postgresql://postgres@{away}/postgres",
        "PIPELINE_POSTGRES_ADMIN_PASSWORD_FILE": str(secret_file),
        "PIPELINE_ROLE_SECRETS_DIR": str(folder / "roles"),
        "PIPELINE_NOTIFICATION_CHANNEL": "smtp",
        "PIPELINE_SMTP_HOST": "127.0.0.1",
        "PIPELINE_SMTP_PORT": away.rpartition(":")[2],
        "PIPELINE_SMTP_USER": "svc",
        "PIPELINE_SMTP_PASSWORD_FILE": str(secret_file),
        "PIPELINE_HEALTH_PORT": str(processes.free_port()),
        "PIPELINE_HTTP_PORT": str(processes.free_port()),
        "PIPELINE_HTTP_METRICS_DIR": str(processes.scratch()),
        "PIPELINE_HOME": str(folder / "no-stack-here"),
        "PIPELINE_LOG_LEVEL": "debug",
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run them all at once until each has given up, or has been asked what it has; yield all that each showed."""
    folder = tmp_path_factory.mktemp("secrets")
    texts = dict.fromkeys(PROGRAMS, "")

    def look(program: str, process: Process) -> bool:
        """Return True once there is nothing more to see."""
        if process.exit_code is not None:
            return True
        with suppress(OSError):
            texts[program] += Path(f"/proc/{process.pid}/cmdline").read_text()
        answers = [_answer(process.health_url, path) for path in ("/readyz", "/livez", "/metrics")]
        if program == API_PROGRAM:
            answers += [_answer(process.http_url, path) for path in ("/readyz", "/orders?user_id=ada", "/openapi.json")]
        texts[program] += "".join(answers)
        return program == API_PROGRAM and all(answers)

    with Processes(folder) as processes:
        running = {
            program: processes.start(*program.split(), env=environment(folder, processes, role))
            for program, role in PROGRAMS.items()
        }
        began = time.monotonic()
        for program, process in running.items():
            wait_for(
                partial(look, program, process),
                timeout_seconds=max(GIVES_UP_SECONDS - (time.monotonic() - began), 1.0),
                what=f"{program} that says what is away",
            )
        for program, process in running.items():
            if process.exit_code is None:
                process.stop()
            texts[program] += process.output()
        yield texts


def _answer(url: str, path: str) -> str:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    return ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_secret_is_in_anything_that_a_program_shows(program: str, shown: dict[str, str]) -> None:
    assert "127.0.0.1" in shown[program], "it named what is away, so it could have named more"
    assert CANARY not in shown[program]
