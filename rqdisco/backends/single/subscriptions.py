"""Subscriptions to changes of an ID, decided here or received from a peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.storage.memory import Change

Watcher = Callable[[], None]


class Subscriptions:
    """The watchers of each ID, called once the disk has a change."""

    def __init__(self) -> None:
        self._watchers: dict[bytes, list[Watcher]] = {}

    def add(self, discovery_id: str, changed: Watcher) -> Callable[[], None]:
        """Call `changed` from now on. Return a function that ends that; further calls do nothing."""
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
        """Notify of changes that the disk has."""
        if self._watchers:
            for change in changes:
                self._notify(change.key)

    def dropped(self, keys: Sequence[bytes]) -> None:
        """Notify of IDs that were deleted."""
        if self._watchers:
            for key in keys:
                self._notify(key)

    def notify(self, discovery_id: str) -> None:
        """Notify that a grant of the ID ended, so that its record may be shown."""
        if self._watchers:
            self._notify(discovery_id.encode())

    def _notify(self, key: bytes) -> None:
        for changed in tuple(self._watchers.get(key, ())):
            changed()
