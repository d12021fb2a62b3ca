"""How much each client may ask for, and how much all of them may hold."""
