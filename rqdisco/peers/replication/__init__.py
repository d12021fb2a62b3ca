"""What each daemon holds of every home, and how that comes to the others."""
