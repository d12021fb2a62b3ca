"""Where the daemon listens: doors that are opened and closed alike, whatever they speak."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from rqdisco.core.errors import BadEndpoint, CannotListen, OpenToOthers
from rqdisco.dns.server import DNSServer
from rqdisco.http.server.host_allowlist import ConnectionFactory, HostAllowlist
from rqdisco.http.server.proxy_protocol import BehindProxy
from rqdisco.http.server.site import BoundedSite
from rqdisco.limits.accepting import accept_few, accept_waiting
from rqdisco.security.certificates import Certificates
from rqdisco.security.tls import TLSEndpoint, parse_description

DRAIN_SECONDS = 5.0
# Kinds of endpoints that are reached as far as their sockets are.
_PLAIN = re.compile(r"(?:(?:ssl|tls):)?(?:tcp6?|unix|systemd|\d+)(?::|\Z)")
_PROXIED = "haproxy:"
_SOCKET = re.compile(r"(?:haproxy:)?unix:")
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104, they are looked for, not listened on


class Listener(Protocol):
    """Something that listens; `name` is what it is called in the log."""

    name: str

    async def open(self) -> list[str]:
        """Listen; return where, in words. Raises CannotListen."""

    async def close(self) -> None:
        """Listen no more; return when what had arrived is answered or cut off."""


class HTTPListener:
    """A site on each of some endpoints; `is_guarded` says that it need not be kept from other
    machines, `hosts` which hosts requests may be for that come by an address that only this machine
    reaches.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        site: BoundedSite,
        *,
        is_guarded: bool = True,
        hosts: HostAllowlist | None = None,
    ) -> None:
        self.name = name
        self._hosts = hosts
        self._is_guarded = is_guarded
        self._clock = clock
        self._endpoints = endpoints
        self._site = site
        self._ports: list[IListeningPort] = []

    async def open(self) -> list[str]:
        for description, endpoint in self._endpoints:
            await self._listen(description, endpoint)
        return [_in_words(port.getHost()) for port in self._ports]

    async def close(self) -> None:
        for port in self._ports:
            # Whoever the kernel has taken the connection of, and nobody accepted yet, would be
            # reset.
            accept_waiting(port)
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        try:
            await self._site.drain().addTimeout(DRAIN_SECONDS, self._clock)
        except defer.TimeoutError:
            self._log.warn("some requests are left unanswered", connections=len(self._site.channels))
            self._site.abort_connections()

    async def _listen(self, description: str, endpoint: IStreamServerEndpoint) -> None:
        is_mutual = isinstance(endpoint, TLSEndpoint) and endpoint.is_mutual
        listener = ConnectionFactory(self._site)
        factory: Any = self._site if isinstance(endpoint, _ProxiedEndpoint) else listener
        try:
            port = await endpoint.listen(factory)
            self._ports.append(port)
            accept_few(port)
            address = port.getHost()
        except CannotListenError as error:
            raise CannotListen(f"cannot listen on {description}: {_reason(error)}") from error
        except Exception as error:
            # Endpoints raise what they like: over a port out of range, a file that is missing, ...
            raise CannotListen(f"cannot listen on {description}: {error}") from error
        # Nothing is accepted yet. Only the socket itself tells what a host's name or a socket of
        # systemd's stands for.
        local = listens_locally(description, address)
        # No name leads to a socket of the file system.
        if local and self._hosts is not None and not (is_mutual or isinstance(address, UNIXAddress)):
            listener.restrict(self._hosts)
        if not (local or is_mutual or self._is_guarded):
            raise OpenToOthers(
                f"{description}: other machines can ask there and no tokens are needed: say --tokens FILE, or --open"
            )


class _Occupied(Exception):
    """There is no place for a socket in the file system; the text says why."""


@implementer(IStreamServerEndpoint)
class _ProxiedEndpoint:
    """An endpoint for connections that come through proxies."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, site: Any) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = self._endpoint.listen(BehindProxy(site))
        return listening


class _Sockets:
    """Twisted's reactor as far as its endpoints for sockets of the file system ask for it
    (IReactorUNIX). A socket that was left there by who was killed is replaced.

    Twisted's own way, a lock that names a process, fails for ever where that number is another
    process's by now: in a container every process is the first one.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenUNIX(  # noqa: N802, it is Twisted's
        self, address: str | bytes, factory: IProtocolFactory, **how: Any
    ) -> IListeningPort:
        """Listen. Raises _Occupied if there is anything else than a socket that nobody listens
        on.
        """
        _make_way(Path(os.fsdecode(address)))
        port: IListeningPort = self._reactor.listenUNIX(address, factory, **{**how, "wantPID": False})
        return port


def endpoint(
    reactor: Any, option: str, description: str, certificates: Certificates
) -> tuple[str, IStreamServerEndpoint]:
    """An endpoint beside its description, as an option has it. Raises BadEndpoint, CannotListen,
    TLSUnusable.

    `haproxy:` before another endpoint is Twisted's word for connections that begin with a PROXY
    header.
    """
    try:
        if description.startswith(_PROXIED):
            return description, _ProxiedEndpoint(_plain_endpoint(reactor, description[len(_PROXIED) :]))
        tls = parse_description(description)
        inner = _plain_endpoint(reactor, description if tls is None else tls.inner)
    except LookupError as error:
        raise CannotListen(f"cannot listen on {description}: no socket {error} was passed on to this process") from None
    except Exception as error:
        # Each kind of endpoint raises what it likes over a description it cannot read.
        example = "such as tcp:4000:interface=127.0.0.1"
        raise BadEndpoint(f"--{option} {description}: {error} (it is an endpoint, {example})") from None
    if tls is None:
        return description, inner
    kept = certificates.for_listener(f"{option} {tls.inner}", tls.files)
    return description, TLSEndpoint(inner, kept, reactor, is_mutual=tls.files.authorities is not None)


def _plain_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """What Twisted makes of a description; raises what it likes."""
    is_socket = _SOCKET.match(description) is not None
    found: IStreamServerEndpoint = serverFromString(_Sockets(reactor) if is_socket else reactor, description)
    return found


def listens_locally(description: str, address: Any) -> bool:
    """Whether only this machine reaches what listens at `address`.

    What is behind HAProxy is reached by others, and of a kind that a plugin of Twisted adds nobody
    can know.
    """
    if _PLAIN.match(description) is None:
        return False
    if isinstance(address, UNIXAddress):
        return True
    try:
        ip = ipaddress.ip_address(address.host.partition("%")[0])
    except (AttributeError, ValueError):
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def owners_socket(reactor: Any, path: Path) -> tuple[str, IStreamServerEndpoint]:
    """A socket that its owner alone can open."""
    return f"unix:{path}", UNIXServerEndpoint(_Sockets(reactor), str(path), mode=0o600)


def _make_way(path: Path) -> None:
    """Take away a socket that nobody listens on any more, and nothing else. Raises _Occupied.

    Two daemons that start on one path in the same instant could each take the other's for such a
    one; those of one state directory cannot, since it is locked by now.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_socket()):
            raise _Occupied("something else is there")
        if path.exists():
            if not _is_left(path):
                raise _Occupied("somebody listens there already")
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _Occupied(error.strerror or str(error)) from error


def _is_left(path: Path) -> bool:
    """Whether nobody listens on the socket any more."""
    with socket.socket(socket.AF_UNIX) as probe:
        # Without waiting: one that is alive may have more to do than to accept.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except BlockingIOError:
            pass
    return False


class DNSListener:
    """A name server."""

    _log = Logger()
    name = "dns"

    def __init__(self, listener: DNSServer) -> None:
        self._listener = listener
        self._ports: list[IListeningPort] = []

    async def open(self) -> list[str]:
        try:
            self._ports += self._listener.listen()
            for port in self._ports:
                accept_few(port)
        except CannotListenError as error:
            where = f"[{error.interface}]:{error.port}" if ":" in error.interface else f"{error.interface}:{error.port}"
            raise CannotListen(f"cannot listen for DNS on {where}: {_reason(error)}") from error
        addresses: list[Any] = [port.getHost() for port in self._ports[::2]]
        if any(address.host in _WILDCARDS for address in addresses):
            # The kernel chooses from where an answer leaves; who asked another address of ours
            # takes it for forged.
            self._log.warn("DNS on a wildcard address: a machine with several addresses needs each of them named")
        return [_in_words(address) for address in addresses]

    async def close(self) -> None:
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        self._listener.cut()


def _in_words(address: Any) -> str:
    if not hasattr(address, "port"):
        return f"unix:{address.name.decode()}"
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _reason(error: CannotListenError) -> str:
    return getattr(error.socketError, "strerror", None) or str(error.socketError)
