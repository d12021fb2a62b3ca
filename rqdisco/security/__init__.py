"""Tokens, TLS, certificates and file permissions."""
