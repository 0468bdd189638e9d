"""Requests to a coordinator that is not found in time, on librdkafka's own mock cluster, in processes of their own."""

import signal
import subprocess
import sys
from textwrap import dedent

ROUND_TRIP_MS = 60
"""Connecting, then finding the coordinator, takes some of these; so nothing is answered within one."""

_OPTIONS = {
    "bootstrap.servers": "mock",
    "test.mock.num.brokers": 1,
    "test.mock.broker.rtt": ROUND_TRIP_MS,
    "log_level": 0,
}


def ended(program: str) -> int:
    """Run this program, and return its exit code."""
    lines = [f"OPTIONS, WAIT_SECONDS = {_OPTIONS!r}, {ROUND_TRIP_MS / 1000}", dedent(program)]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False, timeout=30).returncode


def test_process_outlives_a_request_that_is_given_up() -> None:
    """Red before, by the signal of the test below: coordinators are found at the end, when no caller waits any more."""
    program = """
    import time
    from confluent_kafka import KafkaException
    from onceloop.kafka.group_requests import GroupRequests

    requests = GroupRequests(OPTIONS)
    for tries in range(10):
        try:
            requests.ask(
                lambda client, limit: client.describe_consumer_groups(["g"], request_timeout=limit),
                seconds=WAIT_SECONDS * tries / 2,
            )
        except KafkaException as error:
            print(error)
        time.sleep(WAIT_SECONDS)
    time.sleep(WAIT_SECONDS * 10)
    """
    assert ended(program) == 0


def test_request_with_a_time_out_takes_its_process_down() -> None:
    """A known defect (librdkafka issue 5040). Once this fails, GroupRequests can go."""
    program = """
    import time
    from confluent_kafka.admin import AdminClient

    client = AdminClient(OPTIONS)
    for _ in range(10):
        client.describe_consumer_groups(["g"], request_timeout=WAIT_SECONDS)["g"].exception()
        time.sleep(WAIT_SECONDS)
    time.sleep(WAIT_SECONDS * 10)
    """
    assert ended(program) == -signal.SIGABRT
