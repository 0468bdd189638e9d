"""The whole pipeline on one machine, without containers: servers, supervisor, logs."""
