"""The attempts to deliver one request, and what is known about its copies (E2)."""

from __future__ import annotations

from rqdisco.backends.etcd.failures import AuthFailed, EtcdFailure, LeaseNotFound, NoSpace, NotApplied, OutcomeUnknown
from rqdisco.backends.etcd.refusals import GatewayRefusal, RefusalKind

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_FINAL: dict[RefusalKind, type[NotApplied]] = {
    RefusalKind.REFUSED: NotApplied,
    RefusalKind.FORBIDDEN: AuthFailed,
    RefusalKind.NO_SPACE: NoSpace,
}


class Attempts:
    """Track the copies of one request. `endpoints` is the number of endpoints to try.

    A read changes nothing, so it is never in doubt.
    """

    def __init__(self, endpoints: int, *, is_read: bool) -> None:
        self.is_in_doubt = False
        self._is_read = is_read
        # A single endpoint is tried twice before a pause: its idle connections may have been stale.
        self._round = max(2, endpoints)
        self._failed = 0
        self._unreachable: dict[str, str] = {}
        self._said: str | None = None
        self._lacks_token = False

    def was_lost(self, endpoint: str, reason: str, *, is_sent: bool) -> None:
        """Record a copy without an answer; one that `is_sent` may have been received."""
        self._failed += 1
        self._unreachable[endpoint] = reason
        if is_sent:
            self._doubt()

    def was_refused(self, refusal: GatewayRefusal) -> None:
        """Record a copy that etcd refused. Raises the failure if another copy is of no use."""
        self._failed += 1
        self._said = refusal.reason
        self._lacks_token = refusal.fate is RefusalKind.NO_TOKEN
        if refusal.fate is RefusalKind.NO_LEASE:
            raise LeaseNotFound(refusal.reason)
        if refusal.fate in (RefusalKind.UNKNOWN, RefusalKind.NO_AUTH):
            self._doubt()
        elif (final := _FINAL.get(refusal.fate)) is not None and not self.is_in_doubt:
            raise final(refusal.reason)

    def failure(self) -> EtcdFailure:
        """Return the failure when the time is up."""
        kind: type[EtcdFailure] = AuthFailed if self._lacks_token else NotApplied
        if self.is_in_doubt:
            kind = OutcomeUnknown
        if self._said is not None:
            return kind(self._said)
        tried = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in self._unreachable.items())
        return kind(f"no etcd endpoint answers ({tried})")

    def pause(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        rounds, rest = divmod(self._failed, self._round)
        return 0.0 if rest else min(_FIRST_PAUSE * 2 ** (rounds - 1), _LONGEST_PAUSE)

    def _doubt(self) -> None:
        if not self._is_read:
            self.is_in_doubt = True
