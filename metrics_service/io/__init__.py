"""The shell: Kafka."""
