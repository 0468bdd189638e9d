"""Build the extension of `native/` from its source and install it, where there is cargo; else say what is used instead.

    python -m tools.native dist
    python -m tools.native lint

The wheel for this platform stays in the folder that is named; `lint` asks the compiler's own checks, where they are
installed. Never fails for want of a toolchain: without the
extension everything works the same, and a worker needs about 1.5 times the CPU for an order.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

MANIFEST = Path(__file__).parents[1] / "native" / "Cargo.toml"
PACKAGE = "order_scan"
_BUILD = ("-m", "maturin", "build", "--release", "--locked", "--quiet", "--manifest-path", str(MANIFEST))
_INSTALL = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-index", "--no-deps")
_LAST_LINES = 5


def build(into: Path) -> str:
    """Build the wheel into this folder, install it, and return which way orders are read from now on, as one line."""
    if shutil.which("cargo") is None:
        return _fallback("there is no cargo on this machine")
    into.mkdir(exist_ok=True)
    for earlier in _wheels(into):
        earlier.unlink()
    if failed := _run((*_BUILD, "--out", str(into), "--interpreter", sys.executable)):
        return _fallback(f"the extension could not be built: {failed}")
    wheel = next(_wheels(into))
    if failed := _run((*_INSTALL, "--force-reinstall", str(wheel))):
        return _fallback(f"the extension could not be installed: {failed}")
    return f"orders are read by the extension: built {wheel}"


def lint() -> int:
    """Return 1 if the source is not as the formatter has it, or may panic; the tools say where."""
    checks = (("fmt", "--check"), ("clippy", "--release", "--locked", "--quiet"))
    return int(any(_cargo(name, "--version", quietly=True) and not _cargo(name, *options) for name, *options in checks))


def _cargo(*arguments: str, quietly: bool = False) -> bool:
    """Return whether a command of cargo's succeeds."""
    if (cargo := shutil.which("cargo")) is None:
        return False
    done = subprocess.run([cargo, *arguments], cwd=MANIFEST.parent, capture_output=quietly, check=False)
    return not done.returncode


def _wheels(folder: Path) -> Iterator[Path]:
    return folder.glob(f"{PACKAGE}-*.whl")


def _fallback(why: str) -> str:
    return f"orders are read by Python alone: {why}"


def _run(arguments: Sequence[str]) -> str:
    """Return the end of what a command said if it failed, else an empty text."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]) or f"exit {done.returncode}"


if __name__ == "__main__":
    if sys.argv[1] == "lint":
        sys.exit(lint())
    print(build(Path(sys.argv[1])))
