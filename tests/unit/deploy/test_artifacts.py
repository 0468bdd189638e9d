import pytest

from deploy.local.fetch.artifacts import LOCK_NAME, STACK, Artifact, locked, parse, render, sets

JAR = Artifact("org.apache.kafka", "kafka-clients", "4.3.1", "", "jar", "ab" * 32, 10)
ARCHIVE = Artifact("io.apicurio", "apicurio-registry-app", "3.3.3", "all", "tar.gz", "cd" * 32, 20)


def test_lock_reads_back_what_was_written() -> None:
    assert parse(render({"stack": [JAR, ARCHIVE], "more": [JAR]})) == {"stack": (ARCHIVE, JAR), "more": (JAR,)}


def test_lock_is_the_same_whatever_the_order() -> None:
    assert render({STACK: [JAR, ARCHIVE]}) == render({STACK: [ARCHIVE, JAR]})


def test_coordinates_and_file_names_are_mavens() -> None:
    assert JAR.coordinates == "org.apache.kafka:kafka-clients:4.3.1"
    assert JAR.file_name == "kafka-clients-4.3.1.jar"
    assert ARCHIVE.coordinates == "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"
    assert ARCHIVE.file_name == "apicurio-registry-app-3.3.3-all.tar.gz"


@pytest.mark.parametrize("line", ["group:artifact abc 1", "a:b:c:d abc 1", "a:b:c abc", "a:b:c abc many"])
def test_malformed_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(f"[stack]\n{line}")


def test_file_that_belongs_to_no_set_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"{LOCK_NAME}: a file before the first \[set\]"):
        parse("a:b:c abc 1")


def test_committed_lock_names_kafka_its_logging_and_one_registry() -> None:
    artifacts = locked()
    names = {artifact.name for artifact in artifacts}
    assert {"kafka_2.13", "kafka-tools", "log4j-slf4j-impl"} <= names
    assert [artifact.name for artifact in artifacts if not artifact.is_jar] == ["apicurio-registry-app"]


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("connect-jdbc", "debezium-connector-jdbc"),
        ("connect-avro", "apicurio-registry-utils-converter"),
        ("connect-mongo", "mongo-kafka-connect"),
        ("monitoring", "jmx_prometheus_javaagent"),
    ],
)
def test_committed_lock_keeps_what_is_optional_in_sets_of_its_own(name: str, has: str) -> None:
    assert has in {artifact.name for artifact in locked(name)}
    assert has not in {artifact.name for artifact in locked()}


def test_plugins_bring_no_classes_that_connect_has_itself() -> None:
    assert not [artifact for artifact in locked("connect-avro") if artifact.group == "org.apache.kafka"]


def test_committed_lock_gives_every_file_a_name_of_its_own() -> None:
    artifacts = {artifact for name in sets() for artifact in locked(name)}
    assert len({artifact.file_name for artifact in artifacts}) == len(artifacts)
