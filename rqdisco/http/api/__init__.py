"""The HTTP APIs: discovery, Consul KV, admin, health, metrics, event streams."""
