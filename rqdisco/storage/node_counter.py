"""How many nodes are registered and whose the IDs are, kept up with every change: nobody can look
through a million records when asked.

Records are looked at as the bytes that the store keeps, without decoding them.
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


class NodeCounter:
    """Counts the records in `settled`, which `steps` looks through part by part, and every change
    from the start. Until `is_whole` the numbers leave out what was not looked at yet.

    `ids` are the IDs of `settled`, in the same order. `claimed` is called with the ID of each
    record there whose claim has not been reported.
    """

    def __init__(
        self,
        settled: Sequence[bytes] = (),
        ids: Sequence[str] = (),
        claimed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.nodes = 0
        self.is_whole = not settled
        self._settled = settled
        self._ids = ids
        self._claimed = claimed
        self._owners: Counter[tuple[bytes, bool]] = Counter()

    def steps(self, at_once: int) -> Iterator[None]:
        """Look through `at_once` records at each step."""
        for start in range(0, len(self._settled), at_once):
            for at, rest in enumerate(self._settled[start : start + at_once], start):
                self.nodes += nodes_in(rest)
                self._owners[_whose(rest)] += 1
                if is_claimed(rest):
                    self._claimed(self._ids[at])
            yield
        self._settled = self._ids = ()
        self.is_whole = True

    def changed(self, before: bytes | None, after: bytes) -> None:
        """The store keeps `after` of an ID in place of `before`."""
        self.nodes += nodes_in(after)
        if before is not None:
            self.nodes -= nodes_in(before)
            if before[_OWNER] == after[_OWNER] and before.endswith(_LOST) == after.endswith(_LOST):
                return
            self._owners[_whose(before)] -= 1
        self._owners[_whose(after)] += 1

    def dropped(self, rest: bytes) -> None:
        """The store forgot an ID."""
        self.nodes -= nodes_in(rest)
        self._owners[_whose(rest)] -= 1

    def owners(self) -> Iterator[tuple[str, bool, int]]:
        """Each home, whether one before it lost its state, and how many IDs it has."""
        return ((owner.decode(), lost, count) for (owner, lost), count in self._owners.items() if count)


def nodes_in(rest: bytes) -> int:
    """How many nodes a record has, as `split_record` gives it. Within a text every quote stands
    behind a backslash, so that nothing sent can look like a node.
    """
    # Before it come the home and two numbers.
    return 1 + rest.count(_NEXT_NODE) if rest.find(_NODES, 50, 150) > 0 else 0


def is_claimed(rest: bytes) -> bool:
    """Whether a record has a claim that its leader has not reported yet (R5c)."""
    return _UNREPORTED in rest


def _whose(rest: bytes) -> tuple[bytes, bool]:
    return rest[_OWNER], rest.endswith(_LOST)
