"""A double of the system resolver: it has some names, answers now or later, fails, or never
answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred


class Resolver:
    """Resolves the names in `known`, and no others.

    Answers at once, or on `release` while `hold` is set. Never answers for names that
    `is_unresponsive` selects, and fails for those that `is_broken` selects.
    """

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        self.hold = False
        self.held: list[tuple[str, Deferred[Sequence[str]]]] = []
        self.is_unresponsive: Callable[[str], bool] = lambda _: False
        self.is_broken: Callable[[str], bool] = lambda _: False

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        self.asked.append(host)
        answer: Deferred[Sequence[str]] = Deferred()
        if self.is_unresponsive(host):
            return answer
        self.held.append((host, answer))
        if not self.hold:
            self.release()
        return answer

    def goes_away(self, *, silently: bool) -> None:
        """From now on answer for no name, or fail for all."""
        if silently:
            self.is_unresponsive = lambda _: True
        else:
            self.is_broken = lambda _: True

    def release(self) -> None:
        """Answer all queries so far."""
        held, self.held = self.held, []
        for host, answer in held:
            if self.is_broken(host):
                answer.errback(OSError("temporary failure in name resolution"))
            else:
                answer.callback(self.known.get(host, ()))
