"""Run the commands of a document as they stand there, in a shell such as an operator's."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from deploy.local.fetch import jars
from deploy.local.servers.java import SHORT_LIVED, java
from tests.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
SECONDS_MAX = 120
_BLOCK = re.compile(r"^( *)```[a-z]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def blocks(document: str, heading: str) -> list[str]:
    """Return the fenced blocks below a heading, up to the next one of its level or above."""
    text = (ROOT / document).read_text(encoding="utf-8")
    begin = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert begin is not None, f"{document} has no heading {heading!r}"
    end = re.compile(rf"^#{{1,{len(begin[1])}}} ", re.MULTILINE).search(text, begin.end())
    section = text[begin.end() : end.start() if end else len(text)]
    return [textwrap.dedent(found[2]) for found in _BLOCK.finditer(section)]


class Shell:
    """A shell with the pipeline's variables, `pipeline` and Kafka's own tools on its path."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        tool = folder / "kafka-transactions.sh"
        tool.write_text(
            f'#!/bin/sh\nexec {java()} {" ".join(SHORT_LIVED)} -cp "{jars.cached().class_path}"'
            ' org.apache.kafka.tools.TransactionsCommand "$@"\n',
            encoding="utf-8",
        )
        tool.chmod(0o700)
        self._env = {
            **os.environ,
            **pipeline.env("reader"),
            "PIPELINE_HOME": str(folder / "no-stack-here"),
            "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def run(self, commands: str, *, check: bool = True, **variables: str) -> str:
        """Run them; return all they wrote. `check`: all must succeed."""
        env: Mapping[str, str] = {**self._env, **variables}
        done = subprocess.run(
            ["/usr/bin/env", "bash", "-euo", "pipefail", "-c", commands],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout
