"""The peers of a daemon as one state machine without I/O: see `machine`."""
