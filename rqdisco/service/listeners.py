"""Listeners: endpoints with an HTTP site or a DNS server behind them, opened and closed alike."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IReactorUNIX,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from rqdisco.core.errors import BadEndpoint, CannotListen
from rqdisco.dns.server import DNSServer
from rqdisco.http.server.host_allowlist import ConnectionFactory, HostAllowlist
from rqdisco.http.server.proxy_protocol import ProxyProtocolFactory
from rqdisco.http.server.site import Site
from rqdisco.limits.accepting import accept_few, accept_waiting
from rqdisco.security.certificates import Certificates
from rqdisco.security.tls import TLSEndpoint, parse_description
from rqdisco.service.endpoint_hints import why_no_endpoint, why_not_listening
from rqdisco.service.reachability import listens_locally, needs_certificates, unprotected

DRAIN_SECONDS = 5.0
_PROXIED = "haproxy:"
_SOCKET = re.compile(r"(?:haproxy:)?unix:")
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104, compared with, not bound


class Listener(Protocol):
    """Something that listens. `name` is what the log calls it."""

    name: str

    async def open(self) -> list[str]:
        """Listen; return the addresses as text. Raises CannotListen, UnprotectedListener."""

    async def close(self) -> None:
        """Stop listening; return once the requests received are answered or aborted."""


class HTTPListener:
    """A site that listens on `endpoints`.

    Unless the listener `is_guarded`, or other machines cannot reach an endpoint, `open` refuses it;
    most are refused before that, by `check_protected`.
    `hosts` restricts the Host header on endpoints that only this machine reaches.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        site: Site,
        *,
        is_guarded: bool = True,
        hosts: HostAllowlist | None = None,
    ) -> None:
        self.name = name
        self._hosts = hosts
        self._is_guarded = is_guarded
        self._clock = clock
        self._endpoints = endpoints
        self.site = site
        self._ports: list[IListeningPort] = []
        self._is_local_only = True

    @property
    def is_local_only(self) -> bool:
        """Report whether it listens where only this machine can connect."""
        return bool(self._ports) and self._is_local_only

    async def open(self) -> list[str]:
        for description, endpoint in self._endpoints:
            await self._listen(description, endpoint)
        return [format_address(port.getHost()) for port in self._ports]

    async def close(self) -> None:
        for port in self._ports:
            # Connections that only the kernel has accepted would be reset.
            accept_waiting(port)
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        try:
            await self.site.drain().addTimeout(DRAIN_SECONDS, self._clock)
        except defer.TimeoutError:
            self._log.warn("requests left unanswered", connections=len(self.site.connections))
            self.site.abort_connections()

    async def _listen(self, description: str, endpoint: IStreamServerEndpoint) -> None:
        is_mutual = needs_certificates(endpoint)
        listener = ConnectionFactory(self.site)
        factory = self.site if isinstance(endpoint, _ProxiedEndpoint) else listener
        try:
            port = await endpoint.listen(factory)
            self._ports.append(port)
            accept_few(port)
            address = port.getHost()
        except CannotListenError as error:
            raise CannotListen(f"cannot listen on {description}: {why_not_listening(error)}") from error
        except Exception as error:
            # Endpoints raise anything: for a port out of range, a missing file, ...
            raise CannotListen(f"cannot listen on {description}: {error}") from error
        # Nothing is accepted yet. Only the socket itself shows which address a host name or a
        # socket passed by systemd has.
        local = listens_locally(description, address)
        self._is_local_only = self._is_local_only and local
        # No host name leads to a UNIX socket.
        if local and self._hosts is not None and not (is_mutual or isinstance(address, UNIXAddress)):
            listener.restrict(self._hosts)
        if not (local or is_mutual or self._is_guarded):
            raise unprotected(description)


class _Occupied(Exception):
    """A UNIX socket cannot be created; the text says why."""


@implementer(IStreamServerEndpoint)
class _ProxiedEndpoint:
    """An endpoint for connections that begin with a PROXY header."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, site: Any) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = self._endpoint.listen(ProxyProtocolFactory(site))
        return listening


class _UNIXReactor:
    """The part of the reactor that UNIX endpoints use (IReactorUNIX). It replaces a socket left
    behind by a killed daemon.

    Twisted's own lock file names a process; it blocks forever once another process has that
    number, and in a container every daemon is process 1.
    """

    def __init__(self, reactor: IReactorUNIX) -> None:
        # Twisted declares narrower arguments for listenUNIX than its endpoints pass.
        self._reactor: Any = reactor

    def listenUNIX(  # noqa: N802, Twisted's name
        self,
        address: str | bytes,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,  # noqa: N803
    ) -> IListeningPort:
        """Listen. Raises _Occupied if the path is anything but a socket without a listener."""
        _remove_stale_socket(Path(os.fsdecode(address)))
        port: IListeningPort = self._reactor.listenUNIX(address, factory, backlog, mode, wantPID=False)
        return port


def endpoint(
    # Which interfaces the reactor needs depends on the kind of endpoint.
    reactor: Any,
    option: str,
    description: str,
    certificates: Certificates,
) -> tuple[str, IStreamServerEndpoint]:
    """Parse the endpoint description of an option; return it with its endpoint.

    `haproxy:` before another endpoint is Twisted's prefix for connections that begin with a PROXY
    header. Raises BadEndpoint, CannotListen, TLSUnusable.
    """
    try:
        if description.startswith(_PROXIED):
            return description, _ProxiedEndpoint(_plain_endpoint(reactor, description[len(_PROXIED) :]))
        tls = parse_description(description)
        inner = _plain_endpoint(reactor, description if tls is None else tls.inner)
    except LookupError as error:
        raise CannotListen(
            f"cannot listen on {description}: systemd passed no socket {error} to this process"
        ) from None
    except Exception as error:
        # Each kind of endpoint raises its own errors for a description it cannot parse.
        raise BadEndpoint(f"--{option} {description}: {why_no_endpoint(description, error)}") from None
    if tls is None:
        return description, inner
    kept = certificates.for_listener(f"{option} {tls.inner}", tls.files)
    return description, TLSEndpoint(inner, kept, reactor, is_mutual=tls.files.authorities is not None)


def _plain_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Parse a description that has no prefix of ours. Raises anything."""
    is_socket = _SOCKET.match(description) is not None
    parsed: IStreamServerEndpoint = serverFromString(_UNIXReactor(reactor) if is_socket else reactor, description)
    return parsed


def owner_only_socket(reactor: IReactorUNIX, path: Path) -> tuple[str, IStreamServerEndpoint]:
    """Return a UNIX socket that only its owner can connect to, with its description."""
    return f"unix:{path}", UNIXServerEndpoint(_UNIXReactor(reactor), str(path), mode=0o600)


def _remove_stale_socket(path: Path) -> None:
    """Remove a socket without a listener, and nothing else. Raises _Occupied, also if there is no
    directory for one.

    Two daemons that start on one path in the same instant could each remove the other's socket;
    those of one state directory cannot, since it is locked by now.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_socket()):
            raise _Occupied("it exists and is not a socket")
        if path.exists():
            if not _is_stale(path):
                raise _Occupied("another process listens there")
            path.unlink(missing_ok=True)
        elif not path.parent.exists():
            raise _Occupied("its directory does not exist")
    except OSError as error:
        raise _Occupied(error.strerror or str(error)) from error


def _is_stale(path: Path) -> bool:
    """Report whether no process listens on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        # Without blocking: a live daemon may be too busy to accept.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except BlockingIOError:
            pass
    return False


class DNSListener:
    """A DNS server."""

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
            raise CannotListen(f"cannot listen for DNS on {where}: {why_not_listening(error)}") from error
        addresses = [port.getHost() for port in self._ports[::2]]
        if any(getattr(address, "host", None) in _WILDCARDS for address in addresses):
            # The kernel chooses the source address of an answer; a client that sent its question to
            # another one discards it as forged.
            self._log.warn("DNS on a wildcard address: on a machine with several addresses, list each of them")
        return [format_address(address) for address in addresses]

    async def close(self) -> None:
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        self._listener.cut()


def format_address(address: object) -> str:
    """Format the address of a port: `HOST:PORT`, or `unix:PATH`."""
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    assert isinstance(address, (IPv4Address, IPv6Address))
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
