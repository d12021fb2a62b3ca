"""Connections of clients: their bounds, their true addresses, and how often they may ask."""
