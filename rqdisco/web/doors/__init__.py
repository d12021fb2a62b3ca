"""The doors: one for each way of asking."""
