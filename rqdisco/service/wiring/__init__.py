"""The composition root: builds every part of the daemon."""
