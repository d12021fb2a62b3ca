"""Discovery IDs as names of a system in which case does not count and a dot separates levels, as in
DNS.
"""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core.dns_labels import dns_labels

# The escaped form of so many octets is one label; that of more has a dot.
_ONE_LABEL = 37
_ENOUGH = 2


class NameIndex:
    """Knows those IDs that are not simply their own lower-case name; none of these is ever
    forgotten.
    """

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._by_name: dict[bytes, list[bytes]] = {}
        self._above: set[bytes] = set()
        for key in keys:
            self.add(key)

    def add(self, key: bytes) -> None:
        """Learn of an ID; knowing it already is fine."""
        name = key.lower()
        if name != key:
            name_index = self._by_name.setdefault(name, [])
            # Two leave the name open already; a thousand more would only have to be looked through.
            if len(name_index) < _ENOUGH and key not in name_index:
                name_index.append(key)
        self._add_above(name)
        if len(key) > _ONE_LABEL:
            self._add_above(dns_labels(key.decode()).encode())

    def of(self, name: bytes) -> list[bytes]:
        """The IDs that are `name` but for case and not `name` itself, or two of them."""
        return self._by_name.get(name, [])

    def is_above(self, name: bytes) -> bool:
        """Whether an ID, or its escaped form, ends with a dot and `name`."""
        return name in self._above

    def _add_above(self, name: bytes) -> None:
        while b"." in name:
            name = name.partition(b".")[2]
            self._above.add(name)
