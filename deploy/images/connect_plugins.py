"""Lay out Connect's plugins for its image: `python -m deploy.images.connect_plugins FOLDER`.

Exactly the files of `jars.lock`, as the local stack has them, and nothing of the servers.
"""

import sys
import tempfile
from pathlib import Path
from shutil import move

from deploy.local.fetch import connect_plugins, jars


def lay_out(folder: Path) -> None:
    """Fetch the plugins and put them there, a folder each."""
    with tempfile.TemporaryDirectory() as cache:
        fetched = jars.ensure(folder=Path(cache), sets=connect_plugins.SETS, servers=False)
        move(connect_plugins.lay_out(fetched), folder)
    folder.chmod(0o755)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
