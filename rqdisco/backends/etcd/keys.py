"""The keys under the operator's prefix, and the index that finds IDs by DNS name.

docs/architecture.md, "Records in etcd", has a table of the keys and their values. Created IDs are
in lower case and have no dots, so only named ones need an index.
"""

from __future__ import annotations

from rqdisco.core.dns_labels import to_dns_labels

# The length of the longest ID whose escaped form is one DNS label, of 63 bytes.
_ONE_LABEL = 37


class EtcdKeys:
    """The keys under `prefix`, which ends with a slash."""

    def __init__(self, prefix: str) -> None:
        base = prefix.encode() + b"v1/"
        self.base = base
        self.meta = base + b"meta"
        self.ids = base + b"ids/"
        self._windows = base + b"windows/"
        self.answers = base + b"answers/"
        self._names = base + b"names/"
        self._parents = base + b"parents/"

    def id(self, discovery_id: str) -> bytes:
        """Return the key of a record."""
        return self.ids + discovery_id.encode()

    def id_of(self, key: bytes) -> str:
        """Return the ID of a key of a record, or of an index."""
        return key[key.rindex(b"/") + 1 :].decode(errors="replace")

    def window(self, discovery_id: str) -> bytes:
        """Return the key that exists while the retry window of an ID is open."""
        return self._windows + discovery_id.encode()

    def answer(self, discovery_id: str) -> bytes:
        """Return the key that exists while the answer to a grant may be on its way."""
        return self.answers + discovery_id.encode()

    def variants(self, name: str) -> bytes:
        """Return the prefix of the keys of the IDs that are the lower-case `name`, ignoring case,
        but not `name` itself.
        """
        return self._names + name.encode() + b"/"

    def below(self, name: str) -> bytes:
        """Return the prefix of the keys of IDs that end with a dot and the lower-case `name`."""
        return self._parents + _reversed(name) + b"."

    def index(self, discovery_id: str) -> list[bytes]:
        """Return the keys under which an ID is found by name."""
        name, keys = discovery_id.lower(), []
        suffix = b"/" + discovery_id.encode()
        if name != discovery_id:
            keys.append(self._names + name.encode() + suffix)
        names = {name} if "." in name else set()
        if len(name) > _ONE_LABEL:
            names.add(to_dns_labels(discovery_id))
        return keys + [self._parents + _reversed(each) + suffix for each in sorted(names)]


def _reversed(name: str) -> bytes:
    return ".".join(reversed(name.split("."))).encode()
