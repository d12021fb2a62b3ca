"""Implementations of `core.directory.Directory`."""
