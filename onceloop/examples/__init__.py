"""Apps to read, run and try things with; none of them is this repository's shop."""
