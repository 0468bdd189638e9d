"""Lay out Connect's plugins in the cache: a folder per plugin, loaded apart from the others, each with a manifest.

With manifests Connect need not look through every class of every jar when it starts: 4 s instead of 11. Two of the
plugins come without; we know what is in them, and Kafka's own tool would search the same classes for 20 s.
"""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from deploy.local.fetch.artifacts import render
from deploy.local.fetch.jars import Jars

SETS = ("connect-jdbc", "connect-avro", "connect-mongo")
"""Each is one plugin, and one folder."""
_MANIFESTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "connect-avro": (
            "org.apache.kafka.connect.storage.Converter",
            "io.apicurio.registry.utils.converter.AvroConverter",
        ),
        "connect-mongo": (
            "org.apache.kafka.connect.sink.SinkConnector",
            "com.mongodb.kafka.connect.MongoSinkConnector",
        ),
    }
)
"""What a plugin offers, as kind and class, where its own jars do not say so."""
_UNWANTED = (
    *("ojdbc", "mysql-connector", "mssql-jdbc", "mariadb-java-client"),  # drivers of databases that we do not have
    *("kafka-clients", "connect-api", "slf4j-api", "zstd-jni", "snappy-java", "lz4-java"),  # Connect's own
)
_LAYOUT = 1
"""To be raised when what is laid out changes."""


def folder(cache: Jars) -> Path:
    """Return Connect's plugin path. Other versions of a plugin are another folder."""
    content = render({name: cache.further[name] for name in SETS})
    version = hashlib.sha256(f"{_LAYOUT}\n{content}".encode()).hexdigest()
    return cache.folder / f"plugins-{version[:12]}"


def lay_out(cache: Jars) -> Path:
    """Make the folder unless it is there, and return it.

    It appears by a rename, whole; of two stacks that make it at the same time one is first, and the other takes its
    folder.
    """
    target = folder(cache)
    if target.exists():
        return target
    aside = Path(tempfile.mkdtemp(dir=cache.folder, prefix="plugins-aside-"))
    try:
        for name in SETS:
            plugin = aside / name
            plugin.mkdir()
            _link_jars(cache.paths(name), plugin)
            if name in _MANIFESTS:
                _write_manifest(plugin / "manifest.jar", *_MANIFESTS[name])
        if not target.exists():
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _link_jars(paths: Sequence[Path], plugin: Path) -> None:
    """Link the wanted jars of a set, and of the archives in it, into the plugin's folder."""
    for jar in (jar for path in paths for jar in ([path] if path.is_file() else path.rglob("*.jar"))):
        if not jar.name.startswith(_UNWANTED):
            os.link(jar, plugin / jar.name)


def _write_manifest(path: Path, kind: str, offered: str) -> None:
    """Write a jar with one entry, of the kind that Java's service loader reads."""
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr(f"META-INF/services/{kind}", f"{offered}\n")
