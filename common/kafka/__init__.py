"""Kafka: the one place that speaks to librdkafka."""
