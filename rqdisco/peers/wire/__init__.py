"""What passes between peers, how it is sealed, and what carries it."""
