"""Connections: limits per connection, PROXY protocol, host allowlist, throttling."""
