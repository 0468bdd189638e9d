"""What a local stack runs, brought to this machine: locks, downloads, the cache of jars. Knows no stack."""
