"""When certificates have to be renewed, as the log says it before others notice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rqdisco.security.certificates import Certificates

_DAY = 86400.0
_SOON_DAYS = 14


class CertificateExpiryMonitor(Service):
    """Looks at all certificates at its start, once a day, when one was read again, and when one
    ends.

    `wall` gives the seconds since 1970; nothing depends on it but what is said.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, certificates: Certificates, wall: Callable[[], float]) -> None:
        self._clock = clock
        self._certificates = certificates
        self._wall = wall
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._certificates.on_read = lambda: self._in(0.0)
        self._look()

    def stopService(self) -> None:
        super().stopService()
        self._certificates.on_read = _nothing
        self._cancel()

    def _look(self) -> None:
        ends = self._certificates.expiries()
        left = [self._say(where, end) for where, end in ends]
        # A second later it has ended for everybody.
        self._in(min([_DAY, *(seconds + 1 for seconds in left if seconds > 0)]))

    def _say(self, where: str, end: datetime) -> float:
        """Log what there is to be said; return how many seconds are left."""
        left = end.timestamp() - self._wall()
        days = int(left // _DAY)
        if left <= 0:
            self._log.error("certificate has ended", where=where, not_after=end.isoformat())
        elif days < _SOON_DAYS:
            self._log.warn("certificate ends soon", where=where, not_after=end.isoformat(), days=days)
        return left

    def _in(self, seconds: float) -> None:
        """Look again then, and not before."""
        self._cancel()
        self._next = self._clock.callLater(seconds, self._look)

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None


def _nothing() -> None:
    pass
