"""The backend of a single daemon that owns its IDs."""
