"""Hints: registrations answered on the owner's behalf, stored durably here and added once there
(R4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.gossip.transport.messages import Hint, decode_message, encode_message
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import Node
from rqdisco.storage.memory import Change, metadata_change
from rqdisco.storage.shielding import shielded
from rqdisco.storage.wal.writer import Journal

_HINT = "!hint/"
_LAST = "!hinted"
_ADDED = "!added/"
# Hints per message.
BATCH_SIZE = 200


class _StoredHint(msgspec.Struct, frozen=True):
    """A hint and its progress: `is_durable` once written, `is_answered` once its node was
    answered, `was_handed_over` once sent to the owner, `is_merging` while it is being added here.
    """

    owner: str
    hint: Hint
    is_durable: bool = False
    is_answered: bool = False
    was_handed_over: bool = False
    is_merging: bool = False


class HintStore:
    """The hints stored for other owners, and for this daemon itself until it is ready (R8).

    `wall_ms` provides numbers that rise across restarts, even on an older disk; `current_owner`
    maps an incarnation to the owner of its IDs.
    """

    def __init__(
        self,
        journal: Journal,
        wall_ms: Callable[[], int],
        current_owner: Callable[[str], str],
        notes: Iterable[Metadata] = (),
    ) -> None:
        self._current_owner = current_owner
        self._journal = journal
        self._wall_ms = wall_ms
        self._hints: dict[int, _StoredHint] = {}
        self._numbers: dict[str, list[int]] = {}
        # Deleted here, while the disk has refused to delete them.
        self._undeleted: dict[int, _StoredHint] = {}
        self._last = 0
        for note in sorted(notes, key=lambda each: each.number):
            if note.id.startswith(_HINT) and not note.is_empty:
                hint = decode_message(note.content.encode(), Hint)
                # Whether its node was answered is unknown after a restart.
                self._put(_StoredHint(note.owner, hint, is_durable=True, is_answered=True, was_handed_over=True))
            if note.id == _LAST or note.id.startswith(_HINT):
                self._last = max(self._last, note.number)

    @property
    def count(self) -> int:
        """The number of hints."""
        return len(self._hints)

    @property
    def owners(self) -> list[str]:
        """The current owners for which there are hints."""
        return sorted({self._current_owner(each.owner) for each in self._hints.values()})

    def nodes(self, discovery_id: str) -> list[Node]:
        """Return the nodes answered here for an ID, which its owner may lack."""
        return [each.hint.node for each in self._of_id(discovery_id) if each.is_answered]

    def unmerged(self, discovery_id: str, own: str) -> list[tuple[str, Hint]]:
        """Return the hints for an own ID that are not being merged, each with the owner it was
        stored for.
        """
        return [
            (each.owner, each.hint)
            for each in self._of_id(discovery_id)
            if each.is_answered and not each.is_merging and self._current_owner(each.owner) == own
        ]

    def ids(self, owner: str) -> list[str]:
        """Return the IDs with hints for an owner."""
        return list(dict.fromkeys(each.hint.id for each in self._for_owner(owner)))

    def next_batch(self, owner: str) -> tuple[str, Sequence[Hint]]:
        """Return the answered hints to deliver next, ordered by number, and the owner they were
        stored for.
        """
        stored = [each for each in self._for_owner(owner) if each.is_answered]
        if not stored:
            return "", ()
        of = stored[0].owner
        oldest = [each for each in stored if each.owner == of][:BATCH_SIZE]
        for each in oldest:
            self._put(replace(each, was_handed_over=True))
        return of, [each.hint for each in oldest]

    def all_durable(self, owner: str) -> bool:
        """Report whether no hint is still being written."""
        return all(each.is_durable for each in self._for_owner(owner))

    async def store(self, owner: str, discovery_id: str, node: Node, host: str | None) -> int:
        """Store a hint and return its number; the caller marks it answered or withdraws it before
        its next await.

        Cancellation withdraws it. Raises StoreUnavailable.
        """
        for each in self._of_id(discovery_id):
            # A delivered hint may have been added, and its node removed since, which needs a new
            # one.
            is_new = each.is_answered and not (each.was_handed_over or each.is_merging)
            if is_new and (each.hint.node, each.hint.host) == (node, host):
                return each.hint.number
        self._last = number = max(self._last + 1, self._wall_ms())
        hint = Hint(number=number, id=discovery_id, node=node, host=host)
        note = Metadata(id=f"{_HINT}{number:016d}", owner=owner, number=number, content=encode_message(hint).decode())
        # A number used once must not return when the clock is set back.
        writing = self._journal.append(
            metadata_change(note), metadata_change(Metadata(id=_LAST, owner=owner, number=number))
        )
        self._put(_StoredHint(owner, hint))
        writing.addCallbacks(lambda _: self._write_done(number), lambda failure: self._write_failed(failure, number))
        try:
            await shielded(writing)
        except CancelledError:
            writing.addCallbacks(lambda _: self.withdraw(number), lambda _: None)
            raise
        return number

    def mark_answered(self, number: int) -> None:
        """Mark a hint whose node is being answered, so that the owner must add it; delete delivered
        hints that it replaces.
        """
        stored = self._hints[number]
        self._put(replace(stored, is_answered=True))
        self._delete(
            each
            for each in self._of_id(stored.hint.id)
            if each.was_handed_over
            and not each.is_merging
            and each.hint.node == stored.hint.node
            and each.hint.number != number
        )

    def withdraw(self, number: int) -> None:
        """Delete a hint whose node was refused after all; it must not cause a listing."""
        stored = self._hints.get(number)
        if stored is not None and not stored.is_answered:
            self._delete([stored])

    def retry_deletions(self) -> None:
        """Retry the deletions that the disk refused."""
        self._delete(self._undeleted.values())

    def _delete(self, done: Iterable[_StoredHint]) -> None:
        """Delete hints without waiting for the disk; after a crash they count as delivered.

        Refused deletions are retried, or a start long after a node's removal would list it again.
        """
        for each in list(done):
            self._remove(each.hint.number)
            self._undeleted[each.hint.number] = each
            with suppress(StoreUnavailable):
                writing = self._journal.append(_deletion(each))
                writing.addCallback(lambda _, number: self._undeleted.pop(number, None), each.hint.number)
                writing.addErrback(lambda failure: failure.trap(StoreUnavailable))

    async def delete_upto(self, of: str, upto: int) -> None:
        """Delete the hints stored for an owner up to a number, which it has added. Raises
        StoreUnavailable.
        """
        stored = [each for each in self._hints.values() if each.owner == of]
        done = [each for each in stored if each.hint.number <= upto and each.is_answered]
        if not done:
            return
        await self._journal.append(*map(_deletion, done))
        for each in done:
            self._remove(each.hint.number)

    def merge(self, numbers: Iterable[int], changes: Sequence[Change]) -> Deferred[None]:
        """Write `changes`, which add hints to own records, and delete those hints, atomically.

        Raises StoreUnavailable.
        """
        merging = [self._hints[number] for number in numbers]
        writing = self._journal.append(*changes, *map(_deletion, merging))
        for each in merging:
            self._put(replace(each, is_merging=True))
        writing.addCallbacks(self._merge_done, self._merge_failed, (merging,), {}, (merging,), {})
        return writing

    def _merge_done(self, result: None, merging: Sequence[_StoredHint]) -> None:
        for each in merging:
            self._remove(each.hint.number)

    def _merge_failed(self, failure: Failure, merging: Sequence[_StoredHint]) -> Failure:
        for each in merging:
            if each.hint.number in self._hints:
                self._put(replace(each, is_merging=False))
        return failure

    def _for_owner(self, owner: str) -> list[_StoredHint]:
        return [each for each in self._hints.values() if self._current_owner(each.owner) == owner]

    def _of_id(self, discovery_id: str) -> list[_StoredHint]:
        return [self._hints[number] for number in self._numbers.get(discovery_id, ())]

    def _put(self, stored: _StoredHint) -> None:
        number = stored.hint.number
        if number not in self._hints:
            self._numbers.setdefault(stored.hint.id, []).append(number)
        self._hints[number] = stored

    def _remove(self, number: int) -> None:
        stored = self._hints.pop(number, None)
        if stored is not None:
            numbers = self._numbers[stored.hint.id]
            numbers.remove(number)
            if not numbers:
                del self._numbers[stored.hint.id]

    def _write_done(self, number: int) -> None:
        self._put(replace(self._hints[number], is_durable=True))

    def _write_failed(self, failure: Failure, number: int) -> Failure:
        self._remove(number)
        return failure


def _deletion(stored: _StoredHint) -> Change:
    """Return the change that deletes a hint."""
    return metadata_change(Metadata(id=f"{_HINT}{stored.hint.number:016d}", owner=stored.owner))


class HintMerger:
    """Adds the hints that others deliver, each once, even if repeated.

    `is_ready` reports whether this daemon has recovered all its decisions (R8).
    """

    _log = Logger()

    def __init__(
        self, local: SingleDirectory, journal: Journal, is_ready: Callable[[], bool], notes: Iterable[Metadata] = ()
    ) -> None:
        self._local = local
        self._is_ready = is_ready
        self._journal = journal
        self._added = {note.id: note.number for note in notes if note.id.startswith(_ADDED)}

    def merge_own(self, hint_store: HintStore, own: str, discovery_id: str) -> Deferred[None] | None:
        """Add what this daemon answered for an own ID before it was ready; None if there is
        nothing.

        The record is changed on return, so later decisions build on it; the result fires once it is
        durable. Raises Undecided, StoreUnavailable.
        """
        hints = hint_store.unmerged(discovery_id, own)
        if not hints:
            return None
        # A disk of an earlier release may retain a hint that was added already.
        new = [hint for of, hint in hints if hint.number > self._added.get(f"{_ADDED}{own}/{of}", 0)]
        changes = [
            change for hint in new for change in self._local.takeover.add_own_node(hint.id, hint.node, hint.host)
        ]
        merging = hint_store.merge([hint.number for _, hint in hints], changes)
        return merging.addCallback(self._log_merged, discovery_id, len(new))

    def _log_merged(self, result: None, discovery_id: str, count: int) -> None:
        self._log.info("own hints added", discovery_id=discovery_id, count=count)

    async def add(self, sender: str, of: str, hints: Sequence[Hint]) -> int:
        """Add the hints that `sender` stored for owner `of`; return the number up to which all are
        durably added.

        Raises Undecided, StoreUnavailable.
        """
        added = f"{_ADDED}{sender}/{of}"
        before = self._added.get(added, 0)
        new = [hint for hint in hints if hint.number > before]
        if not new:
            await self._journal.barrier()
            return before
        for hint in new:
            self._local.takeover.check_addable(hint.id)
            if self._local.grants.newest(hint.id) is None and not self._is_ready():
                # On an older disk the ID may have to be recovered first (R8).
                raise Undecided("not all peers contacted yet since the start")
        changes = [change for hint in new for change in self._local.takeover.add_node(hint.id, hint.node, hint.host)]
        upto = new[-1].number
        # Atomic with the changes: a hint added twice could restore a node that was removed.
        note = metadata_change(Metadata(id=added, owner=of, number=upto))
        self._added[added] = upto
        try:
            writing = self._journal.append(*changes, note)
        except StoreUnavailable:
            self._added[added] = before
            raise
        writing.addErrback(self._undo_add, added, before)
        await shielded(writing)
        self._log.info("registrations from elsewhere added", sender=sender, count=len(new))
        return upto

    def _undo_add(self, failure: Failure, added: str, before: int) -> Failure:
        # The failed write discards all that was built on it.
        self._added[added] = min(self._added.get(added, 0), before)
        return failure
