"""How many orders per minute, counted exactly once; no database."""
