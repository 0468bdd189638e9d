"""A folder with a service of a user's own: what its row may say, and how each mistake is refused."""

import re
from pathlib import Path

import pytest

from common.topics import ORDERS_CREATED, Group
from onceloop.errors import ConfigError
from services.folder import FILE, RESERVED, SET_FOR_IT, load

ROW = """
name = "fraud"
run = ["fraud", "--fast"]
inputs = ["orders.created"]
slots = 2
[outputs]
"fraud.cleared" = 4
[settings]
FRAUD_UNITS_MAX = 20
"""


def folder(tmp_path: Path, row: str = ROW, *, name: str = "fraud", module: str = "fraud.py") -> Path:
    made = tmp_path / name
    made.mkdir()
    (made / FILE).write_text(row, encoding="utf-8")
    (made / module).touch()
    return made


def test_row_says_all_that_the_pipeline_must_know(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (added,) = load([place])
    service = added.service
    assert service.argv[1:] == ("-m", "fraud", "--fast")
    assert (service.name, service.role, service.slots, service.folder) == ("fraud", "fraud_rw", 2, place)
    assert service.groups == (Group("fraud"),)
    assert service.variables == {"FRAUD_UNITS_MAX": "20"}
    assert added.schema == "fraud"
    assert [(topic.name, topic.readers) for topic in added.inputs] == [("orders.created", (Group("fraud"),))]
    assert added.inputs[0].partitions == ORDERS_CREATED.partitions
    assert {topic.name: topic.partitions for topic in added.topics} == {
        "fraud.cleared": 4,
        "orders.created.fraud.dlq": 1,
    }


def test_service_without_a_database_has_neither_role_nor_schema(tmp_path: Path) -> None:
    (added,) = load([folder(tmp_path, ROW.replace("slots = 2", "database = false"))])
    assert (added.service.role, added.schema, added.service.slots) == (None, None, 1)


def test_folder_may_read_what_another_one_writes(tmp_path: Path) -> None:
    second = 'name = "review"\nrun = ["review"]\ninputs = ["fraud.cleared"]\n'
    reading = folder(tmp_path, second, name="review", module="review.py")
    review, fraud = load([reading, folder(tmp_path)])
    assert review.inputs[0].partitions == fraud.outputs[0].partitions == 4
    assert [topic.name for topic in review.topics] == ["fraud.cleared.review.dlq"]


@pytest.mark.parametrize(
    ("was", "becomes", "complaint", "cure"),
    [
        ('name = "fraud"', 'name = "inventory"', "the name 'inventory' is taken", "another `name`"),
        ('name = "fraud"', 'name = "order"', "the name 'order' is taken", "another `name`"),
        ('name = "fraud"', 'name = "Fraud"', r"name: String should match", "howto/add-a-service"),
        ('name = "fraud"', 'name = "fraud-2"', r"name: String should match", "howto/add-a-service"),
        ('name = "fraud"', 'nane = "fraud"', r"name: Field required\n.*nane: Extra inputs", "howto/add-a-service"),
        ("slots = 2", "slots = 0", "slots: Input should be greater", "howto/add-a-service"),
        ("slots = 2", "slots = ", "Invalid value", "howto/add-a-service"),
        ('"orders.created"', '"orders"', "no topic is called 'orders'", "one of: orders.created, .*--service FOLDER"),
        ('"fraud.cleared"', '"metrics"', "would write metrics, which is a topic of the pipeline", "fraud.done"),
        ('"fraud.cleared" = 4', '"fraud.cleared" = 0', "outputs.fraud.cleared: Input should be", "howto"),
        ("FRAUD_UNITS_MAX", "PIPELINE_SLOT", "the pipeline sets PIPELINE_SLOT for each process", "out of"),
        ('"fraud", "--fast"', '"fruad"', "no module 'fruad' to run", "fruad.py, or name another module"),
    ],
)
def test_row_that_cannot_be_is_refused(tmp_path: Path, was: str, becomes: str, complaint: str, cure: str) -> None:
    assert was in ROW
    with pytest.raises(ConfigError, match=complaint) as refused:
        load([folder(tmp_path, ROW.replace(was, becomes))])
    assert re.search(cure, refused.value.cure)


@pytest.mark.parametrize("given", ["nowhere", "empty", "fraud/fraud.py"])
def test_folder_without_a_row_is_refused(tmp_path: Path, given: str) -> None:
    folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=rf"no service in .*{given}: it has no service.toml") as refused:
        load([tmp_path / given])
    assert "examples/fraud" in refused.value.cure


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two services are called fraud"):
        load([folder(tmp_path), folder(tmp_path, name="again")])


def test_two_writers_of_one_topic_are_refused(tmp_path: Path) -> None:
    second = folder(tmp_path, ROW.replace('name = "fraud"', 'name = "other"'), name="again")
    with pytest.raises(ConfigError, match=r"two services write fraud\.cleared"):
        load([folder(tmp_path), second])


def test_example_of_the_repository_is_taken() -> None:
    (added,) = load([Path(__file__).parents[2] / "examples/fraud"])
    assert added.service.name == "fraud"
    assert {topic.name for topic in added.outputs} == {"fraud.cleared", "fraud.suspected"}


def test_names_of_what_runs_already_are_reserved() -> None:
    assert {"order-api", "inventory", "kafka", "postgres", "provision", "prometheus", "connect"} <= RESERVED
    assert {"PIPELINE_KAFKA_BOOTSTRAP", "PIPELINE_POSTGRES_URL", "PIPELINE_HEALTH_PORT"} <= SET_FOR_IT
