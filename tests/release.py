"""Another release of this code beside the tree's own: a copy with a patch applied, and processes that run it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Release:
    """A release. `folder`: None is the tree itself."""

    folder: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        """Return what makes `python -m` take this release's modules instead of the tree's."""
        return {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"} if self.folder else {}

    def run(self, *arguments: str, env: Mapping[str, str]) -> str:
        """Run this release's `pipeline` command; return what it prints."""
        argv = [sys.executable, "-m", "deploy.cli.main", *arguments]
        done = subprocess.run(
            argv, env={**os.environ, **env, **self.env}, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def patched(patch: Path, folder: Path) -> Release:
    """Return a release: the files of the tree as they stand now, copied to `folder`, and the patch."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(ROOT / name, folder / name)
    done = subprocess.run(
        ["git", "apply", str(patch)],  # noqa: S607
        cwd=folder,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},  # or git would look for a repository above
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{patch} no longer applies; make it again (docs/schema-evolution.md)\n{done.stderr}"
    return Release(folder)
