"""Apps to read, to run and to try things with."""
