"""Events, audit log, counters and health of the daemon."""
