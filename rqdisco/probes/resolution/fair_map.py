"""A bounded mapping in which no ID can evict the entries of others. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FairMap(Generic[K, V]):
    """Up to `capacity` entries, each charged to one ID. When it is full, the ID with the most
    entries loses its oldest.

    Every operation takes constant time, since clients can cause many of them.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._charged_to: dict[K, str] = {}
        self._entries: dict[str, OrderedDict[K, V]] = {}
        # The IDs by their number of entries, which changes by one at a time; so does the largest.
        self._ids_of_size: dict[int, OrderedDict[str, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        return len(self._charged_to)

    def get(self, key: K) -> V | None:
        """Return the value of `key`, None without one."""
        discovery_id = self._charged_to.get(key)
        return None if discovery_id is None else self._entries[discovery_id][key]

    def count(self, discovery_id: str) -> int:
        """Return how many entries are charged to an ID."""
        return len(self._entries.get(discovery_id, ()))

    def oldest(self, discovery_id: str) -> K:
        """Return the key of the oldest entry of an ID that has one."""
        return next(iter(self._entries[discovery_id]))

    def put(self, discovery_id: str, key: K, value: V) -> V | None:
        """Set `key`, which becomes the newest entry of this ID. Return the evicted value, if
        any.
        """
        self.pop(key)
        self._add(discovery_id, key, value)
        if len(self) <= self._capacity:
            return None
        largest = next(iter(self._ids_of_size[self._largest]))
        return self.pop(self.oldest(largest))

    def pop(self, key: K) -> V | None:
        """Remove `key`. Return its value, None if there was none."""
        discovery_id = self._charged_to.pop(key, None)
        if discovery_id is None:
            return None
        entries = self._entries[discovery_id]
        value = entries.pop(key)
        self._move(discovery_id, len(entries) + 1, len(entries))
        if not entries:
            del self._entries[discovery_id]
        return value

    def _add(self, discovery_id: str, key: K, value: V) -> None:
        entries = self._entries.setdefault(discovery_id, OrderedDict())
        entries[key] = value
        self._charged_to[key] = discovery_id
        self._move(discovery_id, len(entries) - 1, len(entries))

    def _move(self, discovery_id: str, before: int, now: int) -> None:
        """Record that the number of entries of an ID has changed."""
        if before:
            same = self._ids_of_size[before]
            del same[discovery_id]
            if not same:
                del self._ids_of_size[before]
        if now:
            self._ids_of_size.setdefault(now, OrderedDict())[discovery_id] = None
        if now > self._largest or self._largest not in self._ids_of_size:
            self._largest = now
