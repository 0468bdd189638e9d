"""Running the pipeline: command line, local stack, provisioning."""
