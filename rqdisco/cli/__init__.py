"""The command `rqdisco`."""
