"""The HTTP doors: the discovery API of rqlite 3.12-6.10, the bounds every request is held to, errors as answers."""
