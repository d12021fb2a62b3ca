"""The daemon that decides about its own IDs: their home (R1, R3)."""
