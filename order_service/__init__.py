"""Order intake and status over HTTP."""
