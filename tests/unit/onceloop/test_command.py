"""What is typed is done, or refused: never dropped in silence."""

import pytest

from onceloop import command, script
from onceloop.examples.ledger import app


@pytest.mark.parametrize("arguments", [["run", "--topics", "2"], ["--topics"]])
def test_option_of_init_is_refused_for_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Red before: `run --topics 2` ran, and made no topic."""
    with pytest.raises(SystemExit) as ended:
        command.main(app, arguments)
    assert ended.value.code == 2
    assert "--topics goes with init" in capsys.readouterr().err


def test_option_of_init_is_refused_for_run_by_the_console_script_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(["run", "onceloop.examples.ledger:app", "--topics", "2"])
    assert ended.value.code == 2
    assert "--topics goes with init" in capsys.readouterr().err
