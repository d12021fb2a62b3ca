"""Which names a request may be for, at a listener that only this machine reaches and that asks for
no tokens.

A page of any site may have its own name point to 127.0.0.1 once it is loaded (DNS rebinding): the
browser of somebody on this machine then takes the daemon for that site, and lets the page ask it
for anything and read what it answers. What no page can change is the Host that the browser sends,
which is the name of its site.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.core.addresses import is_loopback
from rqdisco.core.errors import ForeignHost
from rqdisco.http.requests.responses import refusal_of
from rqdisco.http.requests.runner import write
from rqdisco.http.server.site import BoundedSite
from rqdisco.limits.log_throttle import LogThrottle

_HOST = re.compile(r"(?:\[(?P<ip>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]*))(?::[0-9]{0,5})?\Z")


class HostAllowlist:
    """This machine's own names and addresses, and those `given` by the operator, which are in their
    usual form.

    A request that is for no host at all is let in: no browser sends one. `count` is called for each
    that is refused.
    """

    _log = Logger()

    def __init__(self, given: Iterable[str], now: Callable[[], float], count: Callable[[], None]) -> None:
        self._names = frozenset(given)
        self._throttle = LogThrottle(now)
        self._count = count
        # Clients say the same ones again and again.
        self._is_allowed = lru_cache(maxsize=1024)(self._look_up)

    def admits(self, request: Any) -> bool:
        """Whether each Host of the request is allowed."""
        return all(map(self._is_allowed, request.requestHeaders.getRawHeaders(b"host", ())))

    def refuse(self, request: Any) -> None:
        """Answer a request that is not let in; that is in the log once a minute for each client."""
        self._count()
        foreign = next(each for each in request.requestHeaders.getRawHeaders(b"host") if not self._is_allowed(each))
        error = ForeignHost(name_in(foreign))
        peer = str(getattr(request.getClientAddress(), "host", None))
        if self._throttle.is_due(peer):
            self._log.warn("refused", peer=peer, why=str(error))
        refusal = refusal_of(Failure(error))
        speaks_consul = request.path.lstrip(b"/").startswith(b"v1/")
        write(refusal.as_text() if speaks_consul else refusal.as_json(), request)

    def _look_up(self, host: bytes) -> bool:
        name = name_in(host)
        if name is None:
            return False
        return not name or name in self._names or is_loopback(name)


def name_in(host: bytes) -> str | None:
    """Return the normalized host, "" if the header is empty, None if it is malformed."""
    match = _HOST.match(host.strip().decode("latin-1"))
    if match is None:
        return None
    if match["ip"] is None:
        return match["name"].lower().removesuffix(".")
    try:
        return str(ipaddress.IPv6Address(match["ip"]))
    except ValueError:
        return None


@implementer(IProtocolNegotiationFactory)
class ConnectionFactory(Factory):
    """The connections of one listener of a site, whose requests may be for any host until
    `restrict` is called.
    """

    noisy = False

    def __init__(self, site: BoundedSite) -> None:
        self._site: Any = site
        self._hosts: HostAllowlist | None = None

    def restrict(self, hosts: HostAllowlist) -> None:
        """From now on let in only those that are for one of these hosts."""
        self._hosts = hosts

    def startFactory(self) -> None:
        self._site.doStart()

    def stopFactory(self) -> None:
        self._site.doStop()

    def acceptableProtocols(self) -> list[bytes]:
        """What is spoken inside of TLS."""
        protocols: list[bytes] = self._site.acceptableProtocols()
        return protocols

    def buildProtocol(self, addr: object) -> Any:
        channel = self._site.buildProtocol(addr)
        if channel is not None:
            channel.hosts = self._hosts
        return channel
