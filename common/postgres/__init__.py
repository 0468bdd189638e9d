"""PostgreSQL: connections and what to do when they fail."""
