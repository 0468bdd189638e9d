"""The Kafka client: consumer, producers, options, and what looks at a cluster."""
