import inspect
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import onceloop
from onceloop import ConfigError, ContractError, KafkaConfig, Once
from onceloop.errors import UsageError
from onceloop.script import find


def make_app(**changes: Any) -> Once:
    given: dict[str, Any] = {
        "kafka": "127.0.0.1:1",
        "postgres": "postgresql://127.0.0.1:1/none",
        "group": "ledger",
        "inputs": ["payments"],
        "outputs": ["payments.booked"],
    }
    app = Once(**{**given, **changes})
    app.each(key=lambda record: record.key)(lambda _record, _db: None)
    return app


def test_types_that_a_public_name_takes_are_public() -> None:
    """Red before: Stop, that `Once.run` takes, and what an observer or a step has to do with, were not."""
    public = [found for name in onceloop.__all__ if isinstance(found := getattr(onceloop, name), type)]
    functions = [
        function
        for each in public
        for name, function in vars(each).items()
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_"))
    ]
    texts = " ".join(str(hint) for function in functions for hint in get_type_hints(function).values())
    taken = set(re.findall(r"onceloop(?:\.\w+)+", texts))
    assert taken
    assert taken <= {f"{each.__module__}.{each.__name__}" for each in public}


def test_package_refers_to_no_page_that_it_does_not_ship() -> None:
    modules = Path(onceloop.__file__).parent.rglob("*.py")
    assert [str(module) for module in modules if "docs/" in module.read_text(encoding="utf-8")] == []


def test_every_public_name_is_there() -> None:
    assert all(getattr(onceloop, name) for name in onceloop.__all__)
    with pytest.raises(AttributeError):
        onceloop.Twice  # noqa: B018 - asked for, so that it raises


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"group": "a group"}, "group='a group'"),
        ({"group": "1st"}, "group='1st': the schema is named after it, and '1st' .* a letter or an underscore first"),
        ({"group": "g" * 64}, "group='g{64}': the schema is named after it, .* 63 at most"),
        ({"schema": "Ledger"}, "schema='Ledger': lower-case letters"),
        ({"schema": "pg_ledger"}, "schema='pg_ledger': .* not beginning with pg_"),
        ({"inputs": ["i" * 245]}, "topic 'i{245}.ledger.dlq': .* 249 at most"),
        ({"slot": -1}, "slot=-1"),
        ({"inputs": []}, r"inputs=\[\]"),
        ({"inputs": ["pay ments"]}, "topic 'pay ments'"),
        ({"outputs": ["payments"]}, "payments: an input and an output"),
        ({"batch_records_max": 0}, "batch_records_max=0"),
        ({"kafka": KafkaConfig("h:1", consumer_options={"enable.auto.commit": True})}, "enable.auto.commit"),
        ({"kafka": KafkaConfig("h:1", consumer_options={"isolation.level": "read_uncommitted"})}, "isolation.level"),
        ({"kafka": KafkaConfig("h:1", consumer_options={"group.instance.id": "other"})}, "group.instance.id"),
        ({"kafka": KafkaConfig("h:1", producer_options={"transactional.id": "random"})}, "transactional.id"),
        ({"kafka": KafkaConfig("h:1", producer_options={"acks": 1})}, "acks"),
        ({"kafka": KafkaConfig("h:1", producer_options={"message.timeout.ms": 60_000})}, "message.timeout.ms"),
    ],
)
def test_what_breaks_the_guarantee_is_refused_before_anything_connects(changes: dict[str, Any], text: str) -> None:
    app = make_app(**changes)
    for act in (app.run, app.init):
        with pytest.raises(ConfigError, match=text) as refused:
            act()
        assert "PIPELINE_" not in refused.value.message + refused.value.cure


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"inputs": "payments"}, "inputs='payments': one text"),
        ({"outputs": "payments.booked"}, "outputs='payments.booked': one text"),
        ({"inputs": b"payments"}, r"inputs=b'payments'"),
        ({"surroundings": ValueError}, r"surroundings=.*ValueError.*a tuple"),
    ],
)
def test_one_value_in_the_place_of_several_is_refused_at_once(changes: dict[str, Any], text: str) -> None:
    """Red before: a text is a sequence of texts, so the app read the topics p, a, y, ..."""
    with pytest.raises(ConfigError, match=text) as refused:
        make_app(**changes)
    assert refused.value.cure


def test_text_as_inputs_is_refused_where_it_is_put_later_too() -> None:
    app = make_app()
    app.inputs = "payments"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="inputs='payments'"):
        app.run()


def test_app_without_a_handler_and_a_second_handler_are_refused() -> None:
    app = Once(kafka="h:1", postgres="", group="g", inputs=["a"])
    with pytest.raises(ContractError, match="no handler"):
        app.run()
    app.each(key=lambda record: record.key)(print)
    with pytest.raises(ContractError, match="has a handler"):
        app.batch(key=lambda record: record.key)(lambda records, _db: [[] for _ in records])


def test_async_handler_is_refused_at_its_decoration() -> None:
    async def book(_record: object, _db: object) -> None:
        """Await nothing."""

    with pytest.raises(ContractError, match="book is async"):
        Once(kafka="h:1", postgres="", group="g", inputs=["a"]).each(key=lambda record: record.key)(book)  # type: ignore[type-var]


def test_names_on_the_cluster_follow_from_prefix_and_group() -> None:
    app = make_app(topic_prefix="test.")
    assert app.topics == ["test.payments", "test.payments.booked", "test.payments.ledger.dlq"]
    assert make_app(group="Pay-ments.v2").schema == "pay_ments_v2"


def test_app_is_found_by_its_name() -> None:
    assert find("onceloop.examples.ledger:app").group == "ledger"
    with pytest.raises(UsageError, match=r"no module onceloop\.nowhere"):
        find("onceloop.nowhere:app")
    with pytest.raises(UsageError, match="is not a Once app"):
        find("onceloop.records:Partition")


def test_wrapped_handler_is_called_in_its_place() -> None:
    app = make_app()
    app.wrap(lambda handler: lambda record, db: [handler(record, db)])
    assert app.handler is not None
    assert app.handler("record", None) == [None]
