"""The pages that a browser gets where other clients get JSON."""
