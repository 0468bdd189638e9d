"""Set a group's offsets from what its topics and tables prove, so that no operator works them out by hand."""
