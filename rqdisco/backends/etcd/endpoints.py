"""The choice among etcd's endpoints: one is kept until it fails."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.etcd.counts import EtcdCounts


class Endpoints:
    """The endpoints in the order of the options. `current` is where requests go."""

    def __init__(self, endpoints: Sequence[str], counts: EtcdCounts) -> None:
        self._all = tuple(endpoints)
        self._counts = counts
        self._index = 0
        self.current = self._all[0]

    def __len__(self) -> int:
        return len(self._all)

    def failed(self, endpoint: str) -> None:
        """Go on to the next endpoint, unless another request that failed has done so."""
        if endpoint != self.current or len(self._all) == 1:
            return
        self._index = (self._index + 1) % len(self._all)
        self.current = self._all[self._index]
        self._counts.switches += 1
