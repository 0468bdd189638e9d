"""What reads a pipeline from outside: topics, groups, tables, HTTP, logs. By code of its own."""
