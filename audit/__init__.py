"""The audit: read the books of a pipeline, from topics and tables, and judge them by its own code alone."""
