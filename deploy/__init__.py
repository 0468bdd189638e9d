"""Running the pipeline: command line, local stack, provisioning."""

VERSION = "0.1.0"
"""Of the whole repository; the package and `pipeline --version` take it from here."""
