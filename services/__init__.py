"""Which services there are: one row each. Everything that starts, provisions, watches or tests them reads it here."""
