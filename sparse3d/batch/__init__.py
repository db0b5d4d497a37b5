"""Many scenes: found, run by a pool of processes or a cluster, none lost."""
