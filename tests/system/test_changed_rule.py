"""A promise kept: another rule of allocation is one file and its test; all else stays, and proves itself under it.

Aim: the rule of examples/limit_per_customer in a copy of the tree. Its unit tests pass, and a whole stack of it keeps
the limit while orders of one customer are decided by two workers at once; `pipeline verify` finds the books sound.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from common.config import KafkaSettings
from common.kafka.schema_registry import open_codec
from common.topics import ORDERS_CREATED
from tests.api import Api
from tests.factories import make_order
from tests.records import wait_for

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "limit_per_customer"
CHANGED = {
    "inventory_service/core/allocation.py": EXAMPLE / "allocation.py",
    "tests/unit/inventory_service/test_allocation.py": EXAMPLE / "test_allocation.py",
}
REACHED = (
    "tests/unit/inventory_service",
    "tests/unit/audit",
    "tests/unit/chaos",
    "tests/unit/benchmarks",
    "tests/unit/test_docs.py",
)
"""What a rule can reach; all other unit tests are the tree's own, which `make unit` runs."""
COMMAND_SECONDS = 600
OUTCOME_SECONDS = 60
LIMIT = 5
CUSTOMERS = ("ada", "bob", "eve")
ORDERS = 240
pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time


def run(*argv: str, cwd: Path) -> str:
    """Return what a program prints that runs from the copy's source."""
    ran = subprocess.run(
        argv,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def git(*arguments: str, cwd: Path) -> str:
    return run(
        shutil.which("git") or "git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments, cwd=cwd
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tree, under version control, in which the example's files have taken their places."""
    copy = tmp_path_factory.mktemp("changed") / "tree"
    for name in git("ls-files", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    git("init", "--quiet", cwd=copy)
    git("add", "--all", cwd=copy)
    git("commit", "--quiet", "--message", "as it is", cwd=copy)
    for name, replacement in CHANGED.items():
        shutil.copyfile(replacement, copy / name)
    return copy


def test_changed_rule_is_one_file_and_its_test(tree: Path) -> None:
    stat = git("diff", "--stat", "--stat-width=120", cwd=tree)
    assert [line.split(" | ")[0].strip() for line in stat.splitlines()[:-1]] == sorted(CHANGED), stat


def test_unit_tests_pass_under_the_changed_rule(tree: Path) -> None:
    printed = run(sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", *REACHED, cwd=tree)
    assert " passed" in printed


@pytest.fixture
def home(tree: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "stack"
    yield folder
    pipeline(tree, "down", "--volumes", home=folder)


def pipeline(tree: Path, command: str, *arguments: str, home: Path) -> str:
    return run(sys.executable, "-m", "deploy.cli.main", command, "--home", str(home), *arguments, cwd=tree)


def write_across_partitions(env: dict[str, str], chance: random.Random) -> None:
    """Write orders of few customers, each on whatever partition is next: as if partitions were added all the time."""
    settings = KafkaSettings(kafka_bootstrap=env["PIPELINE_KAFKA_BOOTSTRAP"], registry_url=env["PIPELINE_REGISTRY_URL"])
    codec = open_codec(settings, (ORDERS_CREATED,))
    producer = confluent_kafka.Producer({"bootstrap.servers": settings.kafka_bootstrap, "linger.ms": 5})
    for partition, user in zip(cycle(range(ORDERS_CREATED.partitions)), chance.choices(CUSTOMERS, k=ORDERS)):
        order = make_order(user_id=user, lines=[("tea", chance.randint(1, 2)), ("mug", 1)])
        producer.produce(ORDERS_CREATED.name, codec.encode(order), user, partition=partition)
    assert producer.flush(20) == 0


def orders_of(api: Api, user: str) -> list[dict[str, Any]]:
    """Return all that is known of the orders of a user."""
    found, page = list[dict[str, Any]](), api.get(f"/orders?user_id={user}&limit=100").json
    while True:
        found += page["orders"]
        if page["next"] is None:
            return found
        page = api.get(f"/orders?user_id={user}&limit=100&cursor={page['next']}").json


def decided(api: Api, user: str) -> list[dict[str, Any]]:
    return [order for order in orders_of(api, user) if order["status"] != "pending"]


def held(api: Api, user: str) -> Counter[str]:
    """Return the units that a user's orders hold, by SKU, as the API shows them."""
    units: Counter[str] = Counter()
    for order in decided(api, user):
        if order["status"] == "reserved":
            units.update({line["sku"]: line["quantity"] for line in order["lines"]})
    return units


def test_limit_holds_on_a_running_pipeline_and_its_books_are_sound(tree: Path, home: Path) -> None:
    """Must hold: each customer has exactly the limit of what was wanted beyond it; parts are visible as parts."""
    pipeline(tree, "up", "--detach", "--inventory", "2", home=home)
    env = json.loads(pipeline(tree, "env", "--json", home=home))
    api = Api(env["PIPELINE_API_URL"])
    write_across_partitions(env, random.Random(13))
    part, beyond = (str(api.place("pat", [("tea", quantity)]).json["order_id"]) for quantity in (LIMIT + 2, 1))
    wait_for(
        lambda: sum(len(decided(api, user)) for user in (*CUSTOMERS, "pat")) == ORDERS + 2,
        seconds=OUTCOME_SECONDS,
        what="an outcome of every order",
    )

    for user in CUSTOMERS:
        assert held(api, user) == {"tea": LIMIT, "mug": LIMIT}
    served, refused = (api.get(f"/orders/{order}").json for order in (part, beyond))
    assert (served["status"], served["lines"]) == ("reserved", [{"sku": "tea", "quantity": LIMIT}])
    assert (refused["status"], refused["reason"]) == ("failed", "other")
    pipeline(tree, "verify", "--not-restocked", "--wait", "60", home=home)
