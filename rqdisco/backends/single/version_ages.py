"""How old versions are, by the monotonic clock: which of them were given out so long ago."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rqdisco.core.codec import Metadata
from rqdisco.core.records import Moment

_CALENDAR = "!calendar"
_STEPS = 100


class _Days(msgspec.Struct, frozen=True):
    """`lived` milliseconds were counted up to the moment `at` of `boot`; `days` says what the
    newest version was when how many had been.
    """

    boot: int
    at: int
    lived: int
    days: tuple[tuple[int, int], ...]


class VersionAges:
    """Tells which versions are `age_ms` old and more, in steps of a hundredth of that.

    No wall clock is asked (P6): what is counted is time that passed on this machine, be the daemon
    up or not. How long the machine itself was off nobody knows, so that does not count, nor does
    what passed of a step before it.
    """

    def __init__(self, owner: str, age_ms: int, notes: Iterable[Metadata] = ()) -> None:
        self._owner = owner
        self._age_ms = age_ms
        self._days: _Days | None = None
        for note in notes:
            self.learn(note)

    def learn(self, note: Metadata) -> None:
        """The disk has a note; those of other kinds are passed over."""
        if note.id == _CALENDAR and note.owner == self._owner and note.content:
            self._days = msgspec.json.decode(note.content, type=_Days)

    def turn(self, now: Moment, newest: int) -> Metadata | None:
        """The note to be kept now, if there is one, `newest` being the highest version that the
        disk has.
        """
        before = self._days
        if before is None:
            return self._note(_Days(now.boot, now.ms, 0, ((0, newest),)))
        if before.boot != now.boot or now.ms < before.at:
            # A machine that was moved may count anew in the same boot.
            return self._note(_Days(now.boot, now.ms, before.lived, before.days))
        lived = self._lived(now)
        if lived - before.lived < max(1, self._age_ms // _STEPS):
            return None
        # Of what is older than it has to be the newest is enough.
        old = [day for day in before.days if day[0] <= lived - self._age_ms][:-1]
        return self._note(_Days(now.boot, now.ms, lived, (*before.days[len(old) :], (lived, newest))))

    def old(self, now: Moment) -> int:
        """The highest version that is known to be old, 0 for none."""
        if self._days is None:
            return 0
        since = self._lived(now) - self._age_ms
        return max((version for lived, version in self._days.days if lived <= since), default=0)

    def _lived(self, now: Moment) -> int:
        assert self._days is not None
        passed = now.ms - self._days.at if now.boot == self._days.boot else 0
        return self._days.lived + max(0, passed)

    def _note(self, days: _Days) -> Metadata:
        return Metadata(id=_CALENDAR, owner=self._owner, content=msgspec.json.encode(days).decode())
