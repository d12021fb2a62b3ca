"""The DNS zone of registered nodes, for rqlite's modes dns and dns-srv."""
