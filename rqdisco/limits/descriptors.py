"""How many files this process may have open, and how many of those its clients may have."""

from __future__ import annotations

import resource

# For the journal, snapshots and the child that folds them, listeners, logs, look-ups of names,
# questions over TCP, peers, and connections that are being closed.
_RESERVED = 512


def allow(connections: int) -> int:
    """Have descriptors for `connections` of clients, if the system lets us; return how many of
    those there may be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, max(soft - _RESERVED, soft // 2))
