"""Who wants to know when an ID changes: told when the disk has it, be it decided here or heard from
a peer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.storage.memory import Change

Watcher = Callable[[], None]


class Subscriptions:
    """The watchers of each ID. Where nobody watches, a batch of changes costs one look."""

    def __init__(self) -> None:
        self._watchers: dict[bytes, list[Watcher]] = {}

    def add(self, discovery_id: str, changed: Watcher) -> Callable[[], None]:
        """Tell `changed` from now on; returns what ends that, and does nothing when called
        again.
        """
        key = discovery_id.encode()
        self._watchers.setdefault(key, []).append(changed)

        def end() -> None:
            watchers = self._watchers.get(key, [])
            if changed in watchers:
                watchers.remove(changed)
                if not watchers:
                    del self._watchers[key]

        return end

    def settled(self, changes: Sequence[Change]) -> None:
        """The disk has these."""
        if self._watchers:
            for change in changes:
                self._tell(change.key)

    def dropped(self, keys: Sequence[bytes]) -> None:
        """These IDs are gone."""
        if self._watchers:
            for key in keys:
                self._tell(key)

    def said(self, discovery_id: str) -> None:
        """What the disk has of an ID is shown from now on."""
        if self._watchers:
            self._tell(discovery_id.encode())

    def _tell(self, key: bytes) -> None:
        for changed in tuple(self._watchers.get(key, ())):
            changed()
