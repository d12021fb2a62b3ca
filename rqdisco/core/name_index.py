"""Discovery IDs as names in which case does not count and a dot separates levels, as in DNS."""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core.dns_labels import to_dns_labels

# The escaped form of a longer ID has several labels.
_ONE_LABEL = 37
# Two variants make a name ambiguous.
_MAX_VARIANTS = 2


class NameIndex:
    """The IDs that are not in lower case, and the names above IDs with dots. None of them
    expires.
    """

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._by_name: dict[bytes, list[bytes]] = {}
        self._above: set[bytes] = set()
        for key in keys:
            self.add(key)

    def add(self, key: bytes) -> None:
        """Add an ID; adding it again changes nothing."""
        name = key.lower()
        if name != key:
            variants = self._by_name.setdefault(name, [])
            if len(variants) < _MAX_VARIANTS and key not in variants:
                variants.append(key)
        self._add_above(name)
        if len(key) > _ONE_LABEL:
            self._add_above(to_dns_labels(key.decode()).encode())

    def of(self, name: bytes) -> list[bytes]:
        """Return up to two IDs that differ from `name` by case only."""
        return self._by_name.get(name, [])

    def is_above(self, name: bytes) -> bool:
        """Report whether an ID, or its escaped form, ends with a dot and `name`."""
        return name in self._above

    def _add_above(self, name: bytes) -> None:
        while b"." in name:
            name = name.partition(b".")[2]
            self._above.add(name)
