"""Which services there are: one row each. All that starts, provisions, watches or tests them reads it here."""
