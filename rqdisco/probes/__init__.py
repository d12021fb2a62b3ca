"""Health checks of registered nodes. Results stay in memory and are not part of any record."""
