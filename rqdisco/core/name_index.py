"""An index to look up discovery IDs as DNS names: ignoring case, a dot separates levels.

`storage.memory.Store` holds it, and the DNS server looks IDs up in it through the directory.
"""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core.dns_labels import to_dns_labels

# The escaped form of a longer ID has several labels.
_ONE_LABEL = 37
# Two variants make a name ambiguous.
_MAX_VARIANTS = 2


class NameIndex:
    """The IDs that are not in lower case, and the parent names of IDs with dots.

    They are created by name and never count as unused, so they never expire.
    """

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._by_name: dict[bytes, list[bytes]] = {}
        self._parents: set[bytes] = set()
        for key in keys:
            self.add(key)

    def add(self, key: bytes) -> None:
        """Add an ID; adding it again changes nothing."""
        name = key.lower()
        if name != key:
            variants = self._by_name.setdefault(name, [])
            if len(variants) < _MAX_VARIANTS and key not in variants:
                variants.append(key)
        self._add_parents(name)
        if len(key) > _ONE_LABEL:
            self._add_parents(to_dns_labels(key.decode()).encode())

    def variants(self, name: bytes) -> list[bytes]:
        """Return up to two IDs that differ from `name` by case only."""
        return self._by_name.get(name, [])

    def has_subdomains(self, name: bytes) -> bool:
        """Report whether an ID, or its escaped form, ends with a dot and `name`."""
        return name in self._parents

    def _add_parents(self, name: bytes) -> None:
        while b"." in name:
            name = name.partition(b".")[2]
            self._parents.add(name)
