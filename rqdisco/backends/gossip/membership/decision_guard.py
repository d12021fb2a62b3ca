"""Whether this daemon may decide about its own IDs: not before it heard what others know of them,
nor with a twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.backends.gossip.transport.messages import Member
from rqdisco.core.errors import NotReady
from rqdisco.core.records import Record


class DecisionGuard:
    """What this daemon is among its peers (R8). `own` gives what it is to them, `others` the
    members that must have been heard, `is_unmet` whether there are to be others, and nobody is
    known yet.

    `fenced` says why it must not decide anything, for as long as it runs; `on_fenced` is told once.
    """

    def __init__(
        self,
        own: Callable[[], Member],
        others: Callable[[], Sequence[Member]],
        is_unmet: Callable[[], bool] = lambda: False,
    ) -> None:
        self._own = own
        self._others = others
        self._is_unmet = is_unmet
        self._heard: set[str] = set()
        self._created: set[str] = set()
        self._is_ready = False
        self._fenced: str | None = None
        self.on_fenced: Callable[[str], None] | None = None
        self.successor: str | None = None

    @property
    def fenced(self) -> str | None:
        return self._fenced

    @fenced.setter
    def fenced(self, why: str | None) -> None:
        is_first, self._fenced = self._fenced is None, why
        if is_first and why is not None and self.on_fenced is not None:
            self.on_fenced(why)

    @property
    def objection(self) -> str | None:
        """Why nothing at all may be decided here, minting included."""
        if self.fenced is not None:
            return self.fenced
        own = self._own()
        if own.state in ("forgotten", "drained"):
            return f"{own.state}: the IDs of {own.incarnation} have another home"
        return None if self.successor is None else f"handed over to {self.successor}"

    @property
    def is_ready(self) -> bool:
        """Whether all members were heard, and nobody has newer versions of this daemon's own
        records.
        """
        if not self._is_ready and not self.missing and not self._is_unmet():
            self._is_ready = True
            self._created.clear()
        return self._is_ready

    @property
    def missing(self) -> list[Member]:
        """Who was not heard yet in this boot."""
        return [each for each in self._others() if each.incarnation not in self._heard]

    def created(self, discovery_id: str) -> None:
        """An ID came to be here."""
        if not self._is_ready:
            self._created.add(discovery_id)

    def has_heard_from(self, incarnation: str) -> bool:
        """Whether a member was heard."""
        return incarnation in self._heard

    def heard(self, incarnation: str) -> None:
        """A member has nothing newer of this daemon's own."""
        self._heard.add(incarnation)

    def doubt(self, incarnation: str) -> None:
        """A member has newer versions of this daemon's own records: it is not what it was."""
        self._heard.discard(incarnation)
        self._is_ready = False

    def check(self, record: Record) -> None:
        """Raise NotReady where this daemon must not change an ID of its own now: others may list on
        its behalf.
        """
        if (objection := self.objection) is not None:
            raise NotReady(objection)
        if record.id not in self._created:
            self.check_ready()

    def check_ready(self) -> None:
        """Raise NotReady where there may have been more than this daemon knows of."""
        if not self.is_ready:
            names = ", ".join(each.name for each in self.missing)
            raise NotReady(f"not heard yet since the start: {names}" if names else "no peer was met yet")
