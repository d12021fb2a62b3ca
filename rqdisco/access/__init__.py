"""Who may do what: tokens, the file of their digests, and who else may read a file."""
