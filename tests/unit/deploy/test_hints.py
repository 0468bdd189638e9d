from pathlib import Path

from deploy.local import home as homes
from deploy.local.stack.hints import home_option, page_lines, paste_lines, pipeline_command

FOLDER = Path("/srv/shop")


def test_command_is_the_short_path_from_the_users_folder() -> None:
    assert pipeline_command(executable="/srv/shop/.venv/bin/python", folder=FOLDER) == ".venv/bin/pipeline"
    assert pipeline_command(executable="/opt/venv/bin/python", folder=FOLDER) == "/opt/venv/bin/pipeline"
    assert pipeline_command(executable="/my venv/bin/python", folder=FOLDER) == "'/my venv/bin/pipeline'"


def test_only_a_stack_elsewhere_needs_the_option() -> None:
    assert home_option(homes.at(FOLDER / ".pipeline"), folder=FOLDER) == ""
    assert home_option(homes.at(Path("/tmp/shop")), folder=FOLDER) == " --home /tmp/shop"  # noqa: S108


def test_lines_carry_the_real_port_and_path() -> None:
    text = "\n".join(paste_lines({"api": 8085}, homes.at(Path("/x/y")), command="bin/pipeline"))
    assert "curl -i localhost:8085/orders" in text
    assert "bin/pipeline kill --home /x/y inventory --slot 0" in text


def test_pages_that_can_be_opened_are_named() -> None:
    assert page_lines({"api": 8085, "kafka": 9092}) == (
        "the API     http://localhost:8085/docs",
        "the topics  http://localhost:8085/docs/events",
    )
    assert page_lines({"api": 8085, "prometheus": 9091})[-1] == "Prometheus  http://localhost:9091/"
