"""Recipes: how each version of rqlited is run so that it finds its cluster. Pure."""
