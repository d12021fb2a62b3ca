"""The interfaces between connections, sites and applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from rqdisco.http.requests.request import Request
from rqdisco.limits.connection_limiter import LimitedConnection


class Application(Protocol):
    """An application that answers the requests of a site."""

    def max_body(self, request: Request) -> int:
        """Return the largest body that the request may have, in bytes. The head is complete."""

    def handle(self, request: Request) -> None:
        """Answer the request, now or later."""


class Hosts(Protocol):
    """The hosts that requests may address."""

    def admits(self, request: Request) -> bool:
        """Report whether the request addresses one of them."""

    def refuse(self, request: Request) -> None:
        """Answer a request that does not."""


class SiteConnection(LimitedConnection, Protocol):
    """A connection, as far as its site needs it."""

    def drain(self, *, at_once: bool) -> None:
        """Finish the current request, then close."""

    def abort(self) -> None:
        """Close at once, whatever is left to send."""


class ConnectionSite(Protocol):
    """The site of a connection, as far as the connection needs it."""

    application: Application
    idle_seconds: float
    trusts_clients: bool
    is_draining: bool

    def now(self) -> float: ...
    def date(self) -> bytes: ...
    def add(self, connection: SiteConnection, host: str | None) -> bool: ...
    def release_slot(self, connection: SiteConnection) -> None: ...
    def remove(self, connection: SiteConnection) -> None: ...
    def call_later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall: ...
    def refusal_delay(self, host: str | None) -> float: ...
    def count_answered(self, request: Request, now: float) -> None: ...
    def count_abandoned(self, request: Request) -> None: ...
    def count_refused(self, status: int) -> None: ...
    def log_tls(self, host: str | None) -> None: ...
