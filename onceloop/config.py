"""What a guest says of its brokers, and the sizes that both sides of a dead letter count on. Imports no client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGE_BYTES_MAX = 1_048_588
"""What a topic takes, after compression: the broker's default."""
DEAD_LETTER_BYTES_MAX = MESSAGE_BYTES_MAX + 64 * 1024
"""A copy must fit whose original just fitted, with its added headers, or the record behind it is never reached."""


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Where the brokers are (`host:port`, separated by commas), and librdkafka options that override the defaults.

    `options`: for every client, security above all; the others for consumers, and for producers, alone. `origin`: where
    a person set them, for messages.
    """

    bootstrap: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold sasl.password
    consumer_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    producer_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: str = "the client's options"
