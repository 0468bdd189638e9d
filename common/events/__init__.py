"""Events: what happened, and the bytes that say so."""
