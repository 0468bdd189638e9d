"""The exporter: what Prometheus learns from outside, of the broker and of the tables."""
