"""librdkafka's own mock cluster, in this process: the one thing that ever stands in for Kafka.

It is for examining the client, which it gives any error to order; what a broker does is asked of brokers.
"""

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from confluent_kafka import cimpl


class Request(IntEnum):
    """Kafka's numbers of requests."""

    PRODUCE = 0
    OFFSET_FETCH = 9
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class MockCluster:
    """librdkafka's mock cluster, through the library that confluent-kafka brings; it lives in a client of its own."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(cimpl.__file__)
        configuration = self._call("rd_kafka_conf_new", ctypes.c_void_p)
        value, text = ctypes.c_char_p, ctypes.create_string_buffer(256)
        self._call("rd_kafka_conf_set", ctypes.c_int, configuration, value(b"log_level"), value(b"0"), text, len(text))
        self._client = self._call("rd_kafka_new", ctypes.c_void_p, 0, configuration, text, len(text))
        assert self._client.value, text.value
        self._cluster = self._call("rd_kafka_mock_cluster_new", ctypes.c_void_p, self._client, 1)
        for topic in (b"in", b"out"):
            self._call("rd_kafka_mock_topic_create", ctypes.c_int, self._cluster, value(topic), 1, 1)
        self._call("rd_kafka_mock_group_initial_rebalance_delay_ms", None, self._cluster, ctypes.c_int32(0))

    @property
    def bootstrap(self) -> str:
        found = self._call("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, self._cluster)
        return bytes(found.value).decode()

    def answer(self, request: Request, errors: Sequence[int]) -> None:
        """Answer the next requests of this kind with these errors, in this order."""
        array = (ctypes.c_int * len(errors))(*errors)
        push = "rd_kafka_mock_push_request_errors_array"
        self._call(push, None, self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), array)

    def elect(self, topic: str) -> None:
        """Have the partition lose its leader and get it back, which begins another leader epoch."""
        elect = "rd_kafka_mock_partition_set_leader"
        for broker in (-1, 1):
            name, partition = ctypes.c_char_p(topic.encode()), ctypes.c_int32(0)
            self._call(elect, ctypes.c_int, self._cluster, name, partition, ctypes.c_int32(broker))

    def delay(self, milliseconds: int) -> None:
        """Answer everything so late."""
        self._call("rd_kafka_mock_broker_set_rtt", ctypes.c_int, self._cluster, ctypes.c_int32(1), milliseconds)

    def forgive(self) -> None:
        """Answer well again."""
        self.delay(0)
        for request in Request:
            self._call("rd_kafka_mock_clear_request_errors", None, self._cluster, ctypes.c_int16(request))

    def close(self) -> None:
        self._call("rd_kafka_mock_cluster_destroy", None, self._cluster)
        self._call("rd_kafka_destroy", None, self._client)

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._library[name]
        function.restype = result
        found = function(*arguments)
        return result(found) if result in {ctypes.c_void_p, ctypes.c_char_p} else found
