"""Set a group's offsets from what its topics and tables prove, so that nobody works them out by hand."""
