"""Who takes part, how each of them is, and whether this daemon may decide."""
