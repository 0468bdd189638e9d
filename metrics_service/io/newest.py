"""Read the newest events that stand on a topic of the metrics' own, as any reader sees them."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from common.events.codec import Codec
from common.events.volume import MinuteVolume, VolumePartial
from onceloop.errors import Busy, FatalError, Undecodable
from onceloop.kafka.follower import following

BACK_OFFSETS = 20_000
"""How far from its end the topic is read. Of partials: some ten hours of a shop that sells in each minute on each
partition; of totals: a week."""
ANSWER_SECONDS = 2.0

Volume = TypeVar("Volume", VolumePartial, MinuteVolume)


def newest(options: Mapping[str, Any], topic: str, codec: Codec, kind: type[Volume]) -> Iterator[Volume]:
    """Yield them in their order; what is none is passed over. Raises Busy if the broker does not hand them out."""
    try:
        with following(options, topic, answer_seconds=ANSWER_SECONDS) as reader:
            reader.begin(back=BACK_OFFSETS)
            values = reader.standing()
    except FatalError as error:
        raise Busy(f"newest of {topic}: {error.message}") from error
    for value in values:
        try:
            yield codec.decode(kind, value)
        except Undecodable:
            continue
