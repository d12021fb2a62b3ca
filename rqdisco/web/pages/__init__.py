"""The pages for people: what a browser is shown where everybody else gets JSON."""
