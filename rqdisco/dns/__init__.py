"""The records as a DNS zone, for rqlite's modes dns and dns-srv."""
