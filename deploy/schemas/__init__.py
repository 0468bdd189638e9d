"""The evolution of schemas: what `pipeline schemas` looks at and writes."""
