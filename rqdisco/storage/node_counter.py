"""Count registered nodes, and IDs by owner, with every change: scanning a million records on demand
would take too long.

Records are examined as the store keeps them, without decoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

_NODES = b'"nodes":['
_NEXT_NODE = b'},{"addr":"'
_LOST = b'"lost":true}'
_UNREPORTED = b'"unreported":'
# `","home":"` and 16 hexadecimal digits.
_OWNER = slice(10, 26)
_TO_OWNER = slice(26)


class NodeCounter:
    """Counts the records in `settled`, in `steps`, and every change from the start. Until
    `is_complete` the numbers leave out records that are still to be counted.

    If any of them has an unreported claim, `claimed` is called afterwards with each of the IDs that
    `ids` then returns.
    """

    def __init__(
        self,
        settled: Sequence[bytes] = (),
        ids: Callable[[], Sequence[str]] = tuple,
        claimed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.nodes = 0
        self.is_complete = not settled
        self._settled = settled
        self._ids = ids
        self._claimed = claimed
        self._owners: Counter[tuple[bytes, bool]] = Counter()

    def steps(self, at_once: int) -> Iterator[None]:
        """Count `at_once` records in each step."""
        has_claims = False
        for start in range(0, len(self._settled), at_once):
            for rest in self._settled[start : start + at_once]:
                self.nodes += nodes_in(rest)
                self._owners[_owner_key(rest)] += 1
                has_claims = has_claims or is_claimed(rest)
            yield
        self._settled = ()
        self.is_complete = True
        # Hardly ever is there a claim, and a list of a million IDs takes 8 MB.
        ids = self._ids() if has_claims else ()
        for start in range(0, len(ids), at_once):
            for each in ids[start : start + at_once]:
                self._claimed(each)
            yield

    def changed(self, before: bytes | None, after: bytes) -> None:
        """Count the change of a record from `before`, None for a new ID, to `after`."""
        self.nodes += nodes_in(after)
        if before is not None:
            self.nodes -= nodes_in(before)
            if after.startswith(before[_TO_OWNER]) and before.endswith(_LOST) == after.endswith(_LOST):
                return
            self._owners[_owner_key(before)] -= 1
        self._owners[_owner_key(after)] += 1

    def dropped(self, rest: bytes) -> None:
        """Count the deletion of an ID."""
        self.nodes -= nodes_in(rest)
        self._owners[_owner_key(rest)] -= 1

    def owners(self) -> Iterator[tuple[str, bool, int]]:
        """Return each owner, whether its IDs are ownerless, and their number."""
        return ((owner.decode(), lost, count) for (owner, lost), count in self._owners.items() if count)


def nodes_in(rest: bytes) -> int:
    """Return the number of nodes in a split record. Quotes within a text are escaped, so that no
    text can look like a node.
    """
    # Owner and two numbers come before the nodes.
    return 1 + rest.count(_NEXT_NODE) if rest.find(_NODES, 50, 150) > 0 else 0


def is_claimed(rest: bytes) -> bool:
    """Report whether a split record has an unreported claim (R5c)."""
    return _UNREPORTED in rest


def _owner_key(rest: bytes) -> tuple[bytes, bool]:
    return rest[_OWNER], rest.endswith(_LOST)
