"""What can be watched of a running daemon: its counts and states as metrics for Prometheus."""
