"""A single daemon that owns all its IDs: decides, makes durable, answers."""
