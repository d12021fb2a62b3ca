"""Replication of each owner's records to the other members."""
