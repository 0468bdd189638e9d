"""The rules of the books, one file per promise, and the table that names them all. Pure."""
