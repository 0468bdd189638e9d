import stat
import sys
from pathlib import Path

from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.process import Child


def test_process_of_the_stack_writes_for_its_user_alone(tmp_path: Path) -> None:
    """Kafka and the registry make their own folders: the mode of those is not ours to choose, but the umask is."""
    guardian = Guardian()
    write = f"import pathlib; made = pathlib.Path({str(tmp_path / 'made')!r}); made.mkdir(); (made / 'log').touch()"
    try:
        child = Child(Launch(argv=(sys.executable, "-c", write), log=tmp_path / "log"), guardian)
        assert child.wait(20) == 0
    finally:
        guardian.close()
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "made" / "log").stat().st_mode) == 0o600
