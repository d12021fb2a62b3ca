"""The Host header values that a listener accepts if only this machine reaches it and it requires no
tokens.

A page of any site may let its own name point to 127.0.0.1 once it is loaded (DNS rebinding). A
browser on this machine then takes the daemon for that site, and lets the page send any request and
read the response. What no page can change is the Host that the browser sends, which is the name of
its site.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.core.addresses import is_loopback
from rqdisco.core.errors import HostNotAllowed
from rqdisco.http.requests.request import Request, is_consul_path
from rqdisco.http.requests.responses import refusal_of
from rqdisco.http.server.connection import HTTPConnection
from rqdisco.http.server.site import Site
from rqdisco.limits.log_throttle import LogThrottle

_HOST = re.compile(r"(?:\[(?P<ip>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]*))(?::[0-9]{0,5})?\Z")


class HostAllowlist:
    """This machine's own names and addresses, and the operator's `names`, which are normalized.

    A request without a host is admitted: no browser sends one. `count` is called for each refusal.
    """

    _log = Logger()

    def __init__(self, names: Iterable[str], now: Callable[[], float], count: Callable[[], None]) -> None:
        self._names = frozenset(names)
        self._throttle = LogThrottle(now)
        self._count = count
        # Clients send the same few values again and again.
        self._is_allowed = lru_cache(maxsize=1024)(self._check)

    def admits(self, request: Request) -> bool:
        """Report whether each Host of the request is allowed."""
        return all(map(self._is_allowed, [value for name, value in request.headers if name == b"host"]))

    def refuse(self, request: Request) -> None:
        """Answer a request that is not admitted; log it once a minute for each client."""
        self._count()
        hosts = request.headers_named(b"host")
        error = HostNotAllowed(name_in(next(host for host in hosts if not self._is_allowed(host))))
        peer = str(request.client)
        if self._throttle.is_due(peer):
            self._log.warn("refused", peer=peer, why=str(error))
        refusal = refusal_of(Failure(error))
        request.respond(refusal.as_text() if is_consul_path(request) else refusal.as_json())

    def _check(self, host: bytes) -> bool:
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
    """Makes the connections of one listener of a site. Any Host is accepted until `restrict` is
    called.
    """

    noisy = False

    def __init__(self, site: Site) -> None:
        self._site = site
        self._hosts: HostAllowlist | None = None

    def restrict(self, hosts: HostAllowlist) -> None:
        """Accept only these hosts from now on."""
        self._hosts = hosts

    def startFactory(self) -> None:
        self._site.doStart()

    def stopFactory(self) -> None:
        self._site.doStop()

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols to offer in TLS (ALPN)."""
        return self._site.acceptableProtocols()

    def buildProtocol(self, addr: object) -> HTTPConnection | None:
        return self._site.admit(addr, HTTPConnection(self._site, self._hosts))
