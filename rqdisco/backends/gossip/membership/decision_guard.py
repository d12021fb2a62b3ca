"""The guard of decisions about this daemon's own IDs. It forbids them until the daemon has all that
peers hold of these IDs, and while a duplicate of its identity runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.backends.gossip.transport.messages import Member
from rqdisco.core.errors import NotReady
from rqdisco.core.records import Record


class DecisionGuard:
    """This daemon's right to decide (R8). `own` returns its own member entry, `others` the members
    to reach first, `lacks_members` whether seeds are configured and no member is known yet.

    `fenced` is the reason to decide nothing until a restart; `on_fenced` is called once.
    """

    def __init__(
        self,
        own: Callable[[], Member],
        others: Callable[[], Sequence[Member]],
        lacks_members: Callable[[], bool] = lambda: False,
        on_fenced: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._own = own
        self._others = others
        self._lacks_members = lacks_members
        self._confirmed: set[str] = set()
        self._created: set[str] = set()
        self._is_ready = False
        self._fenced: str | None = None
        self._on_fenced = on_fenced
        self.successor: str | None = None

    @property
    def fenced(self) -> str | None:
        return self._fenced

    @fenced.setter
    def fenced(self, why: str | None) -> None:
        is_first, self._fenced = self._fenced is None, why
        if is_first and why is not None:
            self._on_fenced(why)

    @property
    def objection(self) -> str | None:
        """The reason to decide nothing at all, creation of IDs included."""
        if self.fenced is not None:
            return self.fenced
        own = self._own()
        if own.state in ("forgotten", "drained"):
            return f"{own.state}: the IDs of {own.incarnation} have another owner"
        return None if self.successor is None else f"handed over to {self.successor}"

    @property
    def is_ready(self) -> bool:
        """Report whether all members confirmed that they hold no newer version of this daemon's
        records.
        """
        if not self._is_ready and not self.unconfirmed and not self._lacks_members():
            self._is_ready = True
            self._created.clear()
        return self._is_ready

    @property
    def unconfirmed(self) -> list[Member]:
        """The members that have not confirmed since this daemon started."""
        return [each for each in self._others() if each.incarnation not in self._confirmed]

    def created(self, discovery_id: str) -> None:
        """Note an ID created here, which is exempt from the wait for members."""
        if not self._is_ready:
            self._created.add(discovery_id)

    def is_confirmed(self, incarnation: str) -> bool:
        """Report whether a member has confirmed."""
        return incarnation in self._confirmed

    def confirm(self, incarnation: str) -> None:
        """Record that a member holds nothing newer of this daemon's records."""
        self._confirmed.add(incarnation)

    def retract(self, incarnation: str) -> None:
        """Record that a member holds newer versions of this daemon's records: the disk is an older
        one.
        """
        self._confirmed.discard(incarnation)
        self._is_ready = False

    def check(self, record: Record) -> None:
        """Raise NotReady if this daemon must not change one of its own IDs now; others may list on
        its behalf.
        """
        if (objection := self.objection) is not None:
            raise NotReady(objection)
        if record.id not in self._created:
            self.check_ready()

    def check_ready(self) -> None:
        """Raise NotReady if this daemon may lack records of its own."""
        if not self.is_ready:
            names = ", ".join(each.name for each in self.unconfirmed)
            raise NotReady(f"no contact since the start with: {names}" if names else "no peer contacted yet")
