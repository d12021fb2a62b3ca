"""The write-ahead log: frames, segments, group commit and recovery."""
