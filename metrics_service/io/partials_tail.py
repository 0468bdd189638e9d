"""Read the newest partials that stand on their topic, as any reader sees them."""

from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import Busy, FatalError, Undecodable
from common.events.codec import Codec
from common.events.volume import VolumePartial
from common.kafka.follower import following

BACK_OFFSETS = 20_000
"""How far from its end the topic is read: some ten hours of a shop that sells in each minute on each partition."""
ANSWER_SECONDS = 2.0


def newest_partials(options: Mapping[str, Any], topic: str, codec: Codec) -> Iterator[VolumePartial]:
    """Yield them in their order; what is none is passed over. Raises Busy if the broker does not hand them out."""
    try:
        with following(options, topic, answer_seconds=ANSWER_SECONDS) as reader:
            reader.begin(back=BACK_OFFSETS)
            values = reader.standing()
    except FatalError as error:
        raise Busy(f"newest partials: {error.message}") from error
    for value in values:
        try:
            yield codec.decode(VolumePartial, value)
        except Undecodable:
            continue
