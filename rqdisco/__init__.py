"""The rqlite discovery service that you run yourself."""

__version__ = "1.0.0"
