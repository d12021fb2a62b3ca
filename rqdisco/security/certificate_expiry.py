"""Logs certificates that expire soon or have expired."""

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
    """Checks all certificates when it starts, once a day, when one is reloaded, and when one
    expires.

    `wall` returns seconds since 1970; only the log depends on it.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, certificates: Certificates, wall: Callable[[], float]) -> None:
        self._clock = clock
        self._certificates = certificates
        self._wall = wall
        self._next: IDelayedCall | None = None
        certificates.subscribe(self._check_soon)

    def startService(self) -> None:
        super().startService()
        self._check()

    def stopService(self) -> None:
        super().stopService()
        self._cancel()

    def _check_soon(self) -> None:
        if self.running:
            self._check_in(0.0)

    def _check(self) -> None:
        left = [self._report(where, end) for where, end in self._certificates.expiries()]
        # A second later it has expired on every clock.
        self._check_in(min([_DAY, *(seconds + 1 for seconds in left if seconds > 0)]))

    def _report(self, where: str, end: datetime) -> float:
        """Log a certificate that expires soon or has expired; return the seconds left."""
        left = end.timestamp() - self._wall()
        days = int(left // _DAY)
        if left <= 0:
            self._log.error("certificate has expired", where=where, not_after=end.isoformat())
        elif days < _SOON_DAYS:
            self._log.warn("certificate expires soon", where=where, not_after=end.isoformat(), days=days)
        return left

    def _check_in(self, seconds: float) -> None:
        """Set the time of the next check."""
        self._cancel()
        self._next = self._clock.callLater(seconds, self._check)

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
