"""The process: its options, where it listens, and how it starts and ends."""
