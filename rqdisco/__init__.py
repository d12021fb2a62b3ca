"""A discovery service for rqlite that one can run oneself."""

__version__ = "1.0.0"
