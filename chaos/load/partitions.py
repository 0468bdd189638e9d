"""Which partition a key belongs to: Kafka's murmur2, as the services' producers place records. Pure."""

from functools import lru_cache

_M = 0x5BD1E995
_R = 24
_SEED = 0x9747B28C
_BITS = 0xFFFFFFFF
_WORD = 4


@lru_cache(maxsize=10_000)
def home_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key among so many."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(key: bytes) -> int:
    found = _SEED ^ len(key)
    whole = len(key) - len(key) % _WORD
    for at in range(0, whole, _WORD):
        word = int.from_bytes(key[at : at + _WORD], "little") * _M & _BITS
        word = (word ^ word >> _R) * _M & _BITS
        found = (found * _M & _BITS) ^ word
    if rest := key[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * _M & _BITS
    found = (found ^ found >> 13) * _M & _BITS
    return found ^ found >> 15
