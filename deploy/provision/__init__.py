"""Give a broker, a registry and a database what the pipeline needs; every step may be repeated."""
