"""Which services there are: one row each. Whoever starts, provisions, watches or tests them reads it here."""
