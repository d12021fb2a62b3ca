"""Whether this daemon can do what it is asked for, and what is wrong where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class PeersHealth(Protocol):
    """What peers have to do with it. All is said in words."""

    def against_lists(self) -> Sequence[str]:
        """Why lists cannot be served."""

    def against_grants(self) -> Sequence[str]:
        """Why nobody may be told here that it is alone."""

    def news(self) -> Sequence[str]:
        """What else an operator should know of."""


class Condition(msgspec.Struct, frozen=True):
    """What is wrong, if anything is, and what an operator should know of besides."""

    wrong: tuple[str, ...]
    notes: tuple[str, ...]


class Health:
    """The judgement of one daemon. `disk_refuses` gives the reason if the disk took nothing the
    last time, `more` what an operator should know of besides, in words.
    """

    def __init__(
        self,
        disk_refuses: Callable[[], str | None],
        peers: PeersHealth | None = None,
        more: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._disk_refuses = disk_refuses
        self._peers = peers
        self._more = more
        self._is_stopping = False

    def stop(self) -> None:
        """The daemon is about to end."""
        self._is_stopping = True

    def for_lists(self) -> Condition:
        """Whether it can be asked at all. What is known already is told without peers and on a full
        disk (P5).
        """
        return self._condition(self._against_lists(), [*self._against_grants(), *self._news()])

    def for_grants(self) -> Condition:
        """Whether it can change what is known, and may tell a node that it is alone."""
        return self._condition([*self._against_lists(), *self._against_grants()], self._news())

    def _condition(self, wrong: Sequence[str], notes: Sequence[str]) -> Condition:
        return Condition(tuple(dict.fromkeys(wrong)), tuple(dict.fromkeys(each for each in notes if each not in wrong)))

    def _against_lists(self) -> list[str]:
        stopping = ["the daemon is stopping"] if self._is_stopping else []
        return stopping if self._peers is None else [*stopping, *self._peers.against_lists()]

    def _against_grants(self) -> list[str]:
        reason = self._disk_refuses()
        disk = [] if reason is None else [f"nothing can be written: {reason}"]
        return disk if self._peers is None else [*disk, *self._peers.against_grants()]

    def _news(self) -> list[str]:
        return [*(() if self._peers is None else self._peers.news()), *self._more()]
