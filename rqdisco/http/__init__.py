"""The HTTP server, its APIs and pages."""
