"""Host name resolution of registered addresses, bounded and fair between IDs."""
