"""Orders of many units are suspected, the others cleared: `python -m fraud`, one process in one slot.

Consume, decide, produce by the client alone: what it wrote and the offsets it read become visible in one transaction.
"""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from confluent_kafka import Consumer, KafkaException, Message, Producer

from common.config import KafkaSettings, load
from common.events.orders import OrderCreated
from common.kafka.schema_registry import open_codec
from common.topics import ORDERS_CREATED

GROUP = "fraud"
TRANSACTION_SECONDS = 10.0
BATCH_MAX = 100


def main() -> None:
    """Work until SIGTERM or SIGINT."""
    slot, bootstrap = os.environ["PIPELINE_SLOT"], os.environ["PIPELINE_KAFKA_BOOTSTRAP"]
    codec = open_codec(load(KafkaSettings), (ORDERS_CREATED,))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "group.instance.id": f"{GROUP}-{slot}",
            "enable.auto.commit": False,  # the offsets travel in the transaction
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",  # `pipeline up` has given the group its first offsets
            "session.timeout.ms": 6000,
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{GROUP}-{slot}"})
    producer.init_transactions(TRANSACTION_SECONDS)
    consumer.subscribe([ORDERS_CREATED.name])
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    serve_health()
    while not stopped.is_set():
        messages = [each for each in consumer.consume(BATCH_MAX, 0.2) if readable(each)]
        if messages:
            producer.begin_transaction()
            for message in messages:
                order = codec.decode(OrderCreated, message.value() or b"")
                units = sum(line.quantity for line in order.lines)
                topic = "fraud.suspected" if units > int(os.environ["FRAUD_UNITS_MAX"]) else "fraud.cleared"
                verdict = json.dumps({"order_id": str(order.order_id), "units": units})
                producer.produce(topic, key=message.key(), value=verdict.encode())
            offsets, member = consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction(offsets, member, TRANSACTION_SECONDS)
            producer.commit_transaction(TRANSACTION_SECONDS)  # an error ends the process; the next one goes on
            print(json.dumps({"level": "info", "event": "batch.committed", "records": len(messages)}), flush=True)
    consumer.close()


def readable(message: Message) -> bool:
    """Tell whether it is a record; raise what the broker says instead of one."""
    if (error := message.error()) is not None:
        raise KafkaException(error)
    return True


def serve_health() -> None:
    """Answer /readyz, /livez and /metrics on the port that the pipeline gives."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PIPELINE_HEALTH_PORT"])), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main()
