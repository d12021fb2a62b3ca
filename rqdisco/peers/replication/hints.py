"""Registrations answered away from their home: kept durably here, added once there (R4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.codec import Note
from rqdisco.errors import StoreUnavailable, Undecided
from rqdisco.home.local import LocalDirectory
from rqdisco.journal.shield import shielded
from rqdisco.journal.writer import Journal
from rqdisco.peers.wire.messages import Hint, decode, encode
from rqdisco.records import Node
from rqdisco.store import Change, noted

_HINT = "!hint/"
_LAST = "!hinted"
_ADDED = "!added/"
# Handed over in one message.
AT_ONCE = 200


class _Kept(msgspec.Struct, frozen=True):
    home: str
    hint: Hint
    is_durable: bool
    was_told: bool


class HintBook:
    """The hints this daemon keeps for homes elsewhere, and for itself as long as it may not decide (R8).

    `wall_ms` makes numbers that rise across restarts, be the disk an older one; `home_now` tells who is the home of an
    incarnation's IDs by now.
    """

    def __init__(
        self,
        journal: Journal,
        wall_ms: Callable[[], int],
        home_now: Callable[[str], str],
        notes: Iterable[Note] = (),
    ) -> None:
        self._home_now = home_now
        self._journal = journal
        self._wall_ms = wall_ms
        self._kept: dict[int, _Kept] = {}
        self._last = 0
        for note in sorted(notes, key=lambda each: each.number):
            if note.id.startswith(_HINT) and not note.is_empty:
                hint = decode(note.content.encode(), Hint)
                self._kept[hint.number] = _Kept(note.home, hint, True, True)
            if note.id == _LAST or note.id.startswith(_HINT):
                self._last = max(self._last, note.number)

    @property
    def count(self) -> int:
        """How many hints are kept."""
        return len(self._kept)

    @property
    def homes(self) -> list[str]:
        """Those for whom there are hints."""
        return sorted({self._home_now(each.home) for each in self._kept.values()})

    def of(self, discovery_id: str) -> list[Node]:
        """The nodes that were answered here for an ID, and that its home may not know."""
        return [each.hint.node for each in self._kept.values() if each.hint.id == discovery_id]

    def oldest(self, home: str) -> tuple[str, Sequence[Hint]]:
        """What to hand over next, and for which home it was kept: durable hints only, in the order of their numbers."""
        kept = [each for each in self._for(home) if each.is_durable]
        if not kept:
            return "", ()
        of = kept[0].home
        oldest = [each for each in kept if each.home == of][:AT_ONCE]
        for each in oldest:
            self._kept[each.hint.number] = replace(each, was_told=True)
        return of, [each.hint for each in oldest]

    def all_durable(self, home: str) -> bool:
        """Whether no hint is on its way to the disk."""
        return all(each.is_durable for each in self._for(home))

    async def keep(self, home: str, discovery_id: str, node: Node) -> None:
        """Return when a hint is on the disk. Raises StoreUnavailable."""
        same = [
            each
            for each in self._kept.values()
            if each.is_durable and each.hint.id == discovery_id and each.hint.node == node
        ]
        if any(not each.was_told for each in same):
            return
        # One that was told may be added already, and the node removed since: a new one takes its place.
        self._last = number = max(self._last + 1, self._wall_ms())
        hint = Hint(number=number, id=discovery_id, node=node)
        self._kept[number] = _Kept(home, hint, False, False)
        note = Note(id=f"{_HINT}{number:016d}", home=home, number=number, content=encode(hint).decode())
        try:
            # A clock that is set back must not make numbers that were used up once, and forgotten.
            last = noted(Note(id=_LAST, home=home, number=number))
            writing = self._journal.append(noted(note), last, *map(_none, same))
        except StoreUnavailable:
            del self._kept[number]
            raise
        writing.addCallbacks(lambda _: self._written(number, same), lambda failure: self._not_written(failure, number))
        await shielded(writing)

    async def forget(self, of: str, upto: int) -> None:
        """Those kept for a home up to a number are where they belong. Raises StoreUnavailable."""
        kept = [each for each in self._kept.values() if each.home == of]
        done = [each for each in kept if each.hint.number <= upto and each.is_durable]
        if not done:
            return
        await self._journal.append(*map(_none, done))
        for each in done:
            self._kept.pop(each.hint.number, None)

    def _for(self, home: str) -> list[_Kept]:
        return [each for each in self._kept.values() if self._home_now(each.home) == home]

    def _written(self, number: int, replaced: Iterable[_Kept]) -> None:
        self._kept[number] = replace(self._kept[number], is_durable=True)
        for each in replaced:
            self._kept.pop(each.hint.number, None)

    def _not_written(self, failure: Failure, number: int) -> Failure:
        del self._kept[number]
        return failure


def _none(kept: _Kept) -> Change:
    """That a hint is kept no more."""
    return noted(Note(id=f"{_HINT}{kept.hint.number:016d}", home=kept.home))


class HintTaker:
    """Adds the hints that others hand over, each once, whoever repeats them.

    `is_established` says whether all is known that this daemon ever decided (R8).
    """

    _log = Logger()

    def __init__(
        self, local: LocalDirectory, journal: Journal, is_established: Callable[[], bool], notes: Iterable[Note] = ()
    ) -> None:
        self._local = local
        self._is_established = is_established
        self._journal = journal
        self._added = {note.id: note.number for note in notes if note.id.startswith(_ADDED)}

    async def add(self, keeper: str, of: str, hints: Sequence[Hint]) -> int:
        """Add the hints that one daemon kept for a home; return up to which number all of those are durably added.

        Raises Undecided, StoreUnavailable.
        """
        added = f"{_ADDED}{keeper}/{of}"
        before = self._added.get(added, 0)
        new = [hint for hint in hints if hint.number > before]
        if not new:
            await self._journal.barrier()
            return before
        for hint in new:
            self._local.check_addable(hint.id)
            if self._local.known(hint.id) is None and not self._is_established():
                # On an older disk what it is for may have to be taken back first (R8).
                raise Undecided("not heard all yet since the start")
        changes = [change for hint in new for change in self._local.add(hint.id, hint.node)]
        upto = new[-1].number
        # With the changes or not at all: a hint that is added twice could bring back who was removed.
        note = noted(Note(id=added, home=of, number=upto))
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
