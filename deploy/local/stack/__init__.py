"""One stack as a whole: its ports and services, the supervisor, what the terminal shows of it."""
