"""Keep processes: start one, see whether it serves, restart it, leave none behind. Knows no program by name."""
