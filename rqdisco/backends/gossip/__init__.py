"""Several daemons that replicate to each other: membership, replication, forwarding."""
