"""Registrations answered away from their home: kept durably here, added once there (R4)."""

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
# Handed over in one message.
AT_ONCE = 200


class _Kept(msgspec.Struct, frozen=True):
    """A hint and how far it got: `is_durable` once the disk has it, `is_promised` once its node was
    answered, `was_told` once it was handed over, `is_merging` while it is being added here.
    """

    owner: str
    hint: Hint
    is_durable: bool = False
    is_promised: bool = False
    was_told: bool = False
    is_merging: bool = False


class HintStore:
    """The hints this daemon keeps for homes elsewhere, and for itself as long as it may not decide
    (R8).

    `wall_ms` makes numbers that rise across restarts, be the disk an older one; `current_owner`
    tells who is the home of an incarnation's IDs by now.
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
        self._kept: dict[int, _Kept] = {}
        self._numbers: dict[str, list[int]] = {}
        # Kept no more, but by the disk, which refused to forget them.
        self._left_over: dict[int, _Kept] = {}
        self._last = 0
        for note in sorted(notes, key=lambda each: each.number):
            if note.id.startswith(_HINT) and not note.is_empty:
                hint = decode_message(note.content.encode(), Hint)
                # Whether it was answered nobody knows any more.
                self._put(_Kept(note.owner, hint, is_durable=True, is_promised=True, was_told=True))
            if note.id == _LAST or note.id.startswith(_HINT):
                self._last = max(self._last, note.number)

    @property
    def count(self) -> int:
        """How many hints are kept."""
        return len(self._kept)

    @property
    def owners(self) -> list[str]:
        """Those for whom there are hints."""
        return sorted({self._current_owner(each.owner) for each in self._kept.values()})

    def of(self, discovery_id: str) -> list[Node]:
        """The nodes that were answered here for an ID, and that its home may not know."""
        return [each.hint.node for each in self._of(discovery_id) if each.is_promised]

    def of_own(self, discovery_id: str, own: str) -> list[tuple[str, Hint]]:
        """The hints for an ID of this daemon's own that are not being added yet, and the home each
        was kept for.
        """
        return [
            (each.owner, each.hint)
            for each in self._of(discovery_id)
            if each.is_promised and not each.is_merging and self._current_owner(each.owner) == own
        ]

    def ids(self, owner: str) -> list[str]:
        """The IDs for which there are hints for a home."""
        return list(dict.fromkeys(each.hint.id for each in self._for(owner)))

    def oldest(self, owner: str) -> tuple[str, Sequence[Hint]]:
        """What to hand over next, and for which home it was kept: what was answered, in the order
        of numbers.
        """
        kept = [each for each in self._for(owner) if each.is_promised]
        if not kept:
            return "", ()
        of = kept[0].owner
        oldest = [each for each in kept if each.owner == of][:AT_ONCE]
        for each in oldest:
            self._put(replace(each, was_told=True))
        return of, [each.hint for each in oldest]

    def all_durable(self, owner: str) -> bool:
        """Whether no hint is on its way to the disk."""
        return all(each.is_durable for each in self._for(owner))

    async def keep(self, owner: str, discovery_id: str, node: Node, host: str | None) -> int:
        """Return the number of a hint that is on the disk; the caller promises or withdraws it
        before its next await.

        Cancelled, it is withdrawn. Raises StoreUnavailable.
        """
        for each in self._of(discovery_id):
            # One that was told may be added already, and the node removed since: that needs a new
            # one.
            is_new = each.is_promised and not (each.was_told or each.is_merging)
            if is_new and (each.hint.node, each.hint.host) == (node, host):
                return each.hint.number
        self._last = number = max(self._last + 1, self._wall_ms())
        hint = Hint(number=number, id=discovery_id, node=node, host=host)
        note = Metadata(id=f"{_HINT}{number:016d}", owner=owner, number=number, content=encode_message(hint).decode())
        # A clock that is set back must not make numbers that were used up once, and forgotten.
        writing = self._journal.append(
            metadata_change(note), metadata_change(Metadata(id=_LAST, owner=owner, number=number))
        )
        self._put(_Kept(owner, hint))
        writing.addCallbacks(lambda _: self._written(number), lambda failure: self._not_written(failure, number))
        try:
            await shielded(writing)
        except CancelledError:
            writing.addCallbacks(lambda _: self.withdraw(number), lambda _: None)
            raise
        return number

    def promise(self, number: int) -> None:
        """The node of a hint is being answered: its home must add it. Those that were told before
        are let go.
        """
        kept = self._kept[number]
        self._put(replace(kept, is_promised=True))
        self._let_go(
            each
            for each in self._of(kept.hint.id)
            if each.was_told and not each.is_merging and each.hint.node == kept.hint.node and each.hint.number != number
        )

    def withdraw(self, number: int) -> None:
        """The node of a hint was refused after all: nobody may list it because of that."""
        kept = self._kept.get(number)
        if kept is not None and not kept.is_promised:
            self._let_go([kept])

    def tidy(self) -> None:
        """Have the disk forget what it refused to."""
        self._let_go(self._left_over.values())

    def _let_go(self, done: Iterable[_Kept]) -> None:
        """Forget hints; nobody waits for the disk, from which they would come back as ones that
        were told.

        What it refuses is tried again, or a node would be listed again at a start long after it was
        removed.
        """
        for each in list(done):
            self._drop(each.hint.number)
            self._left_over[each.hint.number] = each
            with suppress(StoreUnavailable):
                writing = self._journal.append(_none(each))
                writing.addCallback(lambda _, number: self._left_over.pop(number, None), each.hint.number)
                writing.addErrback(lambda failure: failure.trap(StoreUnavailable))

    async def forget(self, of: str, upto: int) -> None:
        """Those kept for a home up to a number are where they belong. Raises StoreUnavailable."""
        kept = [each for each in self._kept.values() if each.owner == of]
        done = [each for each in kept if each.hint.number <= upto and each.is_promised]
        if not done:
            return
        await self._journal.append(*map(_none, done))
        for each in done:
            self._drop(each.hint.number)

    def merge(self, numbers: Iterable[int], changes: Sequence[Change]) -> Deferred[None]:
        """Write `changes`, which add hints to this daemon's own records, and forget those, all or
        nothing.

        Raises StoreUnavailable.
        """
        merging = [self._kept[number] for number in numbers]
        writing = self._journal.append(*changes, *map(_none, merging))
        for each in merging:
            self._put(replace(each, is_merging=True))
        writing.addCallbacks(self._merged, self._not_merged, (merging,), {}, (merging,), {})
        return writing

    def _merged(self, result: None, merging: Sequence[_Kept]) -> None:
        for each in merging:
            self._drop(each.hint.number)

    def _not_merged(self, failure: Failure, merging: Sequence[_Kept]) -> Failure:
        for each in merging:
            if each.hint.number in self._kept:
                self._put(replace(each, is_merging=False))
        return failure

    def _for(self, owner: str) -> list[_Kept]:
        return [each for each in self._kept.values() if self._current_owner(each.owner) == owner]

    def _of(self, discovery_id: str) -> list[_Kept]:
        return [self._kept[number] for number in self._numbers.get(discovery_id, ())]

    def _put(self, kept: _Kept) -> None:
        number = kept.hint.number
        if number not in self._kept:
            self._numbers.setdefault(kept.hint.id, []).append(number)
        self._kept[number] = kept

    def _drop(self, number: int) -> None:
        kept = self._kept.pop(number, None)
        if kept is not None:
            numbers = self._numbers[kept.hint.id]
            numbers.remove(number)
            if not numbers:
                del self._numbers[kept.hint.id]

    def _written(self, number: int) -> None:
        self._put(replace(self._kept[number], is_durable=True))

    def _not_written(self, failure: Failure, number: int) -> Failure:
        self._drop(number)
        return failure


def _none(kept: _Kept) -> Change:
    """That a hint is kept no more."""
    return metadata_change(Metadata(id=f"{_HINT}{kept.hint.number:016d}", owner=kept.owner))


class HintMerger:
    """Adds the hints that others hand over, each once, whoever repeats them.

    `is_ready` says whether all is known that this daemon ever decided (R8).
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
        """Add what this daemon answered for an ID of its own before it was ready; None where there
        is nothing.

        The record is changed when this returns, so that whatever is decided next is built on it;
        the result fires once the disk has it. Raises Undecided, StoreUnavailable.
        """
        hints = hint_store.of_own(discovery_id, own)
        if not hints:
            return None
        # A disk of an earlier release may have one that was added already, and not forgotten yet.
        new = [hint for of, hint in hints if hint.number > self._added.get(f"{_ADDED}{own}/{of}", 0)]
        changes = [
            change for hint in new for change in self._local.takeover.add_own_node(hint.id, hint.node, hint.host)
        ]
        merging = hint_store.merge([hint.number for _, hint in hints], changes)
        return merging.addCallback(self._note_merged, discovery_id, len(new))

    def _note_merged(self, result: None, discovery_id: str, count: int) -> None:
        self._log.info("added what was listed here on the owner's behalf", discovery_id=discovery_id, count=count)

    async def add(self, keeper: str, of: str, hints: Sequence[Hint]) -> int:
        """Add the hints that one daemon kept for a home; return up to which number all of those are
        durably added.

        Raises Undecided, StoreUnavailable.
        """
        added = f"{_ADDED}{keeper}/{of}"
        before = self._added.get(added, 0)
        new = [hint for hint in hints if hint.number > before]
        if not new:
            await self._journal.barrier()
            return before
        for hint in new:
            self._local.takeover.check_addable(hint.id)
            if self._local.known(hint.id) is None and not self._is_ready():
                # On an older disk what it is for may have to be taken back first (R8).
                raise Undecided("not heard all yet since the start")
        changes = [change for hint in new for change in self._local.takeover.add_node(hint.id, hint.node, hint.host)]
        upto = new[-1].number
        # With the changes or not at all: a hint that is added twice could bring back who was
        # removed.
        note = metadata_change(Metadata(id=added, owner=of, number=upto))
        self._added[added] = upto
        try:
            writing = self._journal.append(*changes, note)
        except StoreUnavailable:
            self._added[added] = before
            raise
        writing.addErrback(self._not_added, added, before)
        await shielded(writing)
        self._log.info("registrations from elsewhere added", keeper=keeper, count=len(new))
        return upto

    def _not_added(self, failure: Failure, added: str, before: int) -> Failure:
        # With it all went that was built upon it.
        self._added[added] = min(self._added.get(added, 0), before)
        return failure
