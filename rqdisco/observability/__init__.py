"""What happened and how it stands: told once, counted, and shown to who runs the daemon."""
