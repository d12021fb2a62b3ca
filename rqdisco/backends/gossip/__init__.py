"""A cluster of daemons that replicate to each other: membership, replication, forwarding."""
