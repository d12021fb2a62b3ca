"""One daemon's state directory: records in memory, write-ahead log, snapshots, compaction,
identity.
"""
