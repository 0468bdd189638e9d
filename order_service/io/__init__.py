"""The shell: HTTP, SQL, Kafka."""
