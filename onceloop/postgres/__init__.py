"""psycopg connections, what their errors mean, and guards of a start."""
