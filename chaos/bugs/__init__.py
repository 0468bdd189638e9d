"""Planted bugs: edits of the source that the suite must find, and how a process gets them."""
