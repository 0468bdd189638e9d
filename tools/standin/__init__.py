"""Images for machines that cannot pull: the servers of the local stack in the clothes of the real images."""
