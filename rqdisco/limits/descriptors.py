"""The file descriptor limit of this process, and how many of those its clients may use."""

from __future__ import annotations

import resource

# For the journal, snapshots and the compaction child, listeners, logs, host name lookups, DNS over
# TCP, peers, and connections that are being closed.
_RESERVED = 512


def allow_connections(connections: int) -> int:
    """Raise the limit as far as the system allows for `connections`; return how many there may
    be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, max(soft - _RESERVED, soft // 2))
