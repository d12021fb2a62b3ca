"""Whether registered nodes can be reached, as this daemon alone sees it: in memory only, and no part of any record."""
