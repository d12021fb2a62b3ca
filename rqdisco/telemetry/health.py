"""Health: whether this daemon can serve lists and grants, and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class BackendHealth(Protocol):
    """The health of what a daemon depends on besides its disk, its peers or etcd, as sentences for
    operators.
    """

    def against_lists(self) -> Sequence[str]:
        """Return why lists cannot be served."""

    def against_grants(self) -> Sequence[str]:
        """Return why no bootstrap grant can be given here."""

    def other_warnings(self) -> Sequence[str]:
        """Return what else an operator should know."""


class Condition(msgspec.Struct, frozen=True):
    """The faults of a daemon, if any, and remarks for its operator."""

    wrong: tuple[str, ...]
    notes: tuple[str, ...]


class DaemonHealth:
    """The health of one daemon. `disk_refuses` returns why the last write failed, None if it did
    not. `more` returns what else an operator should know. `frozen` returns why an operator froze the
    daemon, None if none did.
    """

    def __init__(
        self,
        disk_refuses: Callable[[], str | None],
        backend: BackendHealth | None = None,
        more: Callable[[], Sequence[str]] = tuple,
        frozen: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._disk_refuses = disk_refuses
        self._backend = backend
        self._more = more
        self._frozen = frozen
        self.is_stopping = False

    def stop(self) -> None:
        """Report the daemon as stopping from now on."""
        self.is_stopping = True

    def for_lists(self) -> Condition:
        """Return whether lists can be served. Stored records are served without peers and on a full
        disk (P5).
        """
        return self._condition(self._against_lists(), [*self._against_grants(), *self._other_warnings()])

    def for_grants(self) -> Condition:
        """Return whether records can change and bootstrap grants can be given."""
        return self._condition([*self._against_lists(), *self._against_grants()], self._other_warnings())

    def _condition(self, wrong: Sequence[str], notes: Sequence[str]) -> Condition:
        return Condition(tuple(dict.fromkeys(wrong)), tuple(dict.fromkeys(each for each in notes if each not in wrong)))

    def _against_lists(self) -> list[str]:
        stopping = ["the daemon is stopping"] if self.is_stopping else []
        return stopping if self._backend is None else [*stopping, *self._backend.against_lists()]

    def _against_grants(self) -> list[str]:
        reason = self._disk_refuses()
        wrong = [] if reason is None else [f"nothing can be written: {reason}"]
        if (frozen := self._frozen()) is not None:
            wrong.append(f"no changes here: {frozen}")
        return wrong if self._backend is None else [*wrong, *self._backend.against_grants()]

    def _other_warnings(self) -> list[str]:
        return [*(() if self._backend is None else self._backend.other_warnings()), *self._more()]
