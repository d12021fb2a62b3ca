"""How many connections there may be, in all and for each source; who makes room for a new one."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Protocol

from rqdisco.rates import is_own, source_of

# Of so many at a time the one is chosen that makes room: enough to meet those of a crowd, and no cost by their number.
_LOOKED_AT = 32
UNLIMITED = 1 << 60


class Member(Protocol):
    """A connection: whether its client waits for an answer, and until when it may go on like this."""

    deadline: float

    @property
    def is_busy(self) -> bool: ...

    def cut(self) -> None:
        """End at once."""


class Crowd:
    """The connections of one door: `most` in all, `most_each` of one source.

    Beyond that one makes room that waits for no answer: of the same source, or of the one that has the most. The
    machine itself counts as one source with no limit of its own, since its proxies ask for everybody.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._sources: dict[Member, str] = {}
        self._all: OrderedDict[Member, None] = OrderedDict()
        self._of: dict[str, OrderedDict[Member, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, member: Member, host: str | None) -> bool:
        """Take in a connection; False if there is no room, and nobody who could make any.

        `host` is None for one that came through no network, or of which it is not known yet from where.
        """
        source = "" if host is None or is_own(host) else source_of(host)
        own = self._of.get(source, ())
        if source and len(own) >= self._most_each:
            if not self._make_room(self._of[source]):
                return False
        elif len(self._all) >= self._most and not self._make_room(self._all):
            return False
        self._sources[member] = source
        self._all[member] = self._of.setdefault(source, OrderedDict())[member] = None
        return True

    def leave(self, member: Member) -> None:
        """A connection is gone, if it was here at all."""
        source = self._sources.pop(member, None)
        if source is not None:
            del self._all[member]
            del self._of[source][member]
            if not self._of[source]:
                del self._of[source]

    def _make_room(self, among: OrderedDict[Member, None]) -> bool:
        looked_at = list(islice(among, _LOOKED_AT))
        for member in looked_at:
            # Next time it is the turn of others.
            among.move_to_end(member)
        idle = [member for member in looked_at if not member.is_busy]
        if not idle:
            return False
        least = min(idle, key=lambda member: (-len(self._of[self._sources[member]]), member.deadline))
        self.leave(least)
        least.cut()
        return True
