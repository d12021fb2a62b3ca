"""The `rqdisco` command."""
