import pytest

from deploy.local.artifacts import Artifact, locked, parse, render

JAR = Artifact("org.apache.kafka", "kafka-clients", "4.3.1", "", "jar", "ab" * 32, 10)
ARCHIVE = Artifact("io.apicurio", "apicurio-registry-app", "3.3.3", "all", "tar.gz", "cd" * 32, 20)


def test_lock_reads_back_what_was_written() -> None:
    assert parse(render([JAR, ARCHIVE])) == (ARCHIVE, JAR)


def test_lock_is_the_same_whatever_the_order() -> None:
    assert render([JAR, ARCHIVE]) == render([ARCHIVE, JAR])


def test_coordinates_and_file_names_are_mavens() -> None:
    assert JAR.coordinates == "org.apache.kafka:kafka-clients:4.3.1"
    assert JAR.file_name == "kafka-clients-4.3.1.jar"
    assert ARCHIVE.coordinates == "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"
    assert ARCHIVE.file_name == "apicurio-registry-app-3.3.3-all.tar.gz"


@pytest.mark.parametrize("line", ["group:artifact abc 1", "a:b:c:d abc 1", "a:b:c abc", "a:b:c abc many"])
def test_malformed_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(line)


def test_committed_lock_names_kafka_its_logging_and_one_registry() -> None:
    artifacts = locked()
    names = {artifact.name for artifact in artifacts}
    assert {"kafka_2.13", "kafka-tools", "log4j-slf4j-impl"} <= names
    assert [artifact.name for artifact in artifacts if not artifact.is_jar] == ["apicurio-registry-app"]


def test_committed_lock_gives_every_file_a_name_of_its_own() -> None:
    names = [artifact.file_name for artifact in locked()]
    assert len(names) == len(set(names))
