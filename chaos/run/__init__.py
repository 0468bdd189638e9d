"""What every run stands on: servers, a pipeline on them, its processes, and how these are armed and watched."""
