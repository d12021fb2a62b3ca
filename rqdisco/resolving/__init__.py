"""Where registered addresses lead: taking them apart, and looking up host names."""
