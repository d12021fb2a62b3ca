"""The hints that this daemon stores, and how far it added those of others, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

import msgspec
from msgspec.structs import replace

from rqdisco.backends.gossip.core.members import Members
from rqdisco.backends.gossip.core.messages import Hint, decode_message, encode_message
from rqdisco.core.codec import Metadata
from rqdisco.core.records import Node
from rqdisco.storage.memory import Change, metadata_change

_HINT = "!hint/"
_LAST = "!hinted"
_ADDED = "!added/"
# Hints per message.
BATCH_SIZE = 200


class StoredHint(msgspec.Struct, frozen=True):
    """A hint for an owner and its progress: `is_durable` once written, `is_answered` once its node
    was answered, `was_handed_over` once sent to the owner, `is_merging` while it is being added
    here.
    """

    owner: str
    hint: Hint
    is_durable: bool = False
    is_answered: bool = False
    was_handed_over: bool = False
    is_merging: bool = False


class HintStore:
    """The hints stored for other owners, and for this daemon itself until it is ready (R8).

    `added` holds the numbers up to which the hints of others were added; `undeleted` are those
    whose deletion the disk has refused.
    """

    def __init__(self, members: Members, metadata: Iterable[Metadata] = ()) -> None:
        self._members = members
        self._hints: dict[int, StoredHint] = {}
        self._numbers: dict[str, list[int]] = {}
        # The numbers by the owner they were stored for, rising; and those still being written.
        self._by_owner: dict[str, dict[int, None]] = {}
        self._unwritten: set[int] = set()
        self.undeleted: list[StoredHint] = []
        self.added: dict[str, int] = {}
        self._last = 0
        for each in sorted(metadata, key=lambda each: each.number):
            if each.id.startswith(_ADDED):
                self.added[each.id] = each.number
            elif each.id.startswith(_HINT) and not each.is_empty:
                hint = decode_message(each.content.encode(), Hint)
                # Whether its node was answered is unknown after a restart.
                self.put(StoredHint(each.owner, hint, is_durable=True, is_answered=True, was_handed_over=True))
            if each.id == _LAST or each.id.startswith(_HINT):
                self._last = max(self._last, each.number)
        self._last_loaded = self._last
        # By owner, the last number that hints got before it was known that this disk is an older one.
        self._last_too_low: dict[str, int] = {}

    @property
    def count(self) -> int:
        """The number of hints."""
        return len(self._hints)

    @property
    def owners(self) -> list[str]:
        """The current owners for which there are hints."""
        return sorted({self._members.current_owner(owner) for owner in self._by_owner})

    @property
    def hinted_ids(self) -> list[str]:
        """The IDs for which there are hints."""
        return list(self._numbers)

    def get(self, number: int) -> StoredHint | None:
        """Return a hint by its number."""
        return self._hints.get(number)

    def nodes(self, discovery_id: str) -> list[Node]:
        """Return the nodes answered here for an ID, which its owner may lack."""
        if not self._numbers:
            return []
        return [each.hint.node for each in self.of_id(discovery_id) if each.is_answered]

    def unmerged(self, discovery_id: str, own: str) -> list[StoredHint]:
        """Return the hints for an own ID that are not being merged."""
        current = self._members.current_owner
        return [
            each
            for each in self.of_id(discovery_id)
            if each.is_answered and not each.is_merging and current(each.owner) == own
        ]

    def ids(self, owner: str) -> list[str]:
        """Return the IDs with hints for an owner."""
        return list(dict.fromkeys(each.hint.id for each in self.for_owner(owner)))

    def take_batch(self, owner: str) -> tuple[str, Sequence[Hint]]:
        """Mark the oldest answered hints as handed over and return them, ordered by number, after the
        owner that they were stored for.
        """
        for of in self._succeeded_by(owner):
            answered = (self._hints[number] for number in self._by_owner[of] if self._hints[number].is_answered)
            oldest = list(islice(answered, BATCH_SIZE))
            for each in oldest:
                self.put(replace(each, was_handed_over=True))
            if oldest:
                return of, [each.hint for each in oldest]
        return "", ()

    def all_durable(self, owner: str) -> bool:
        """Report whether all hints for this current owner are on the disk."""
        current = self._members.current_owner
        return all(current(self._hints[number].owner) != owner for number in self._unwritten)

    def reusable(self, discovery_id: str, node: Node, host: str | None) -> int | None:
        """Return the number of a hint that serves once more. A delivered one may have been added, and
        its node removed since, which needs a new one.
        """
        for each in self.of_id(discovery_id):
            is_new = each.is_answered and not (each.was_handed_over or each.is_merging)
            if is_new and (each.hint.node, each.hint.host) == (node, host):
                return each.hint.number
        return None

    def create(
        self, owner: str, discovery_id: str, node: Node, host: str | None, wall_ms: int
    ) -> tuple[int, list[Change]]:
        """Return the number of a new hint, and the changes that store it. Numbers rise across
        restarts, even on an older disk or when the clock is set back.
        """
        self._last = number = max(self._last + 1, wall_ms)
        hint = Hint(number=number, id=discovery_id, node=node, host=host)
        self.put(StoredHint(owner, hint))
        stored = Metadata(id=f"{_HINT}{number:016d}", owner=owner, number=number, content=encode_message(hint).decode())
        return number, [metadata_change(stored), metadata_change(Metadata(id=_LAST, owner=owner, number=number))]

    def learn_added(self, of: str, upto: int) -> None:
        """Learn the number up to which hints of this daemon for an owner were added. If no such number
        is known here, this disk is an older one, and so was the clock: numbers were given again.
        """
        if upto > self._last:
            self._last_too_low[of] = self._last
            self._last = upto

    def is_too_low(self, stored: StoredHint) -> bool:
        """Report whether a hint has a number that an earlier one may have had, so that its owner
        takes it for added.
        """
        return self._last_loaded < stored.hint.number <= self._last_too_low.get(stored.owner, 0)

    def for_owner(self, owner: str) -> list[StoredHint]:
        """Return the hints for an owner and those it succeeded."""
        return [self._hints[number] for of in self._succeeded_by(owner) for number in self._by_owner[of]]

    def _succeeded_by(self, owner: str) -> list[str]:
        return [each for each in self._by_owner if self._members.current_owner(each) == owner]

    def stored_for(self, of: str, upto: int) -> list[StoredHint]:
        """Return the answered hints stored for an owner up to a number."""
        numbers = takewhile(lambda number: number <= upto, self._by_owner.get(of, ()))
        return [self._hints[number] for number in numbers if self._hints[number].is_answered]

    def of_id(self, discovery_id: str) -> list[StoredHint]:
        """Return the hints for an ID."""
        return [self._hints[number] for number in self._numbers.get(discovery_id, ())]

    def put(self, stored: StoredHint) -> None:
        """Add or replace a hint."""
        number = stored.hint.number
        if number not in self._hints:
            self._numbers.setdefault(stored.hint.id, []).append(number)
            self._by_owner.setdefault(stored.owner, {})[number] = None
        self._hints[number] = stored
        if stored.is_durable:
            self._unwritten.discard(number)
        else:
            self._unwritten.add(number)

    def remove(self, number: int) -> None:
        """Remove a hint, if it is there."""
        stored = self._hints.pop(number, None)
        if stored is not None:
            numbers = self._numbers[stored.hint.id]
            numbers.remove(number)
            if not numbers:
                del self._numbers[stored.hint.id]
            self._unwritten.discard(number)
            of_owner = self._by_owner[stored.owner]
            del of_owner[number]
            if not of_owner:
                del self._by_owner[stored.owner]


def deletion(stored: StoredHint) -> Change:
    """Return the change that deletes a hint."""
    return metadata_change(Metadata(id=f"{_HINT}{stored.hint.number:016d}", owner=stored.owner))


def added_key(sender: str, of: str) -> str:
    """Return the key of the number up to which the hints that `sender` stored for `of` were added."""
    return f"{_ADDED}{sender}/{of}"
