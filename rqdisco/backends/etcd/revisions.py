"""Notice that etcd was restored from a backup: its revision goes back, or its cluster is another
one (E8).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rqdisco.backends.etcd.messages import EtcdHeader


class Seen(msgspec.Struct, frozen=True, gc=False):
    """The cluster, and the highest revision that any answer had; zeros before the first answer."""

    cluster_id: int = 0
    revision: int = 0


class RevisionGuard:
    """Checks the header of every linearizable answer. `went_back` is the reason once anything went
    back, and stays until the daemon restarts: nothing is granted any more.

    `noticed` is called once, with the reason.
    """

    def __init__(self, seen: Seen, noticed: Callable[[str], None]) -> None:
        self.seen = seen
        self.went_back: str | None = None
        self._noticed = noticed

    def check(self, header: EtcdHeader, at_send: Seen) -> None:
        """Notice an answer below what had been seen when its request was sent.

        Answers to requests that overlap may come in any order, so the revision is compared to that
        at the time of sending. The Raft term is not compared: a restored copy has the same one.
        """
        if at_send.cluster_id and header.cluster_id != at_send.cluster_id:
            self.notice(f"etcd is another cluster ({header.cluster_id:x}, before {at_send.cluster_id:x})")
        elif header.revision < at_send.revision:
            self.notice(f"etcd went back from revision {at_send.revision} to {header.revision}")
        elif header.revision > self.seen.revision or not self.seen.cluster_id:
            self.seen = Seen(header.cluster_id, header.revision)

    def notice(self, reason: str) -> None:
        """Stop grants for a reason."""
        if self.went_back is None:
            self.went_back = reason
            self._noticed(reason)
