"""TLS for listeners, from endpoint descriptions, and for connections to peers.

The minimum is TLS 1.2, Twisted's default.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from rqdisco.security.certificates import HTTP, Files, ForClients, ForListener, ReloadingFiles

_PREFIX = re.compile(r"(?:ssl|tls):")
_HIDDEN = re.compile(r"haproxy:(?:ssl|tls):")
# Colons separate arguments; a backslash escapes the next character (twisted.internet.endpoints).
_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^\\:])*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class TLSDescription(msgspec.Struct, frozen=True):
    """A listener with TLS: the description of the endpoint below, and the files."""

    inner: str
    files: Files


def parse_description(description: str) -> TLSDescription | None:
    """Parse `ssl:4000:privateKey=FILE:certKey=FILE`, or `tls:` and any other description with these
    arguments; return None for other descriptions.

    The arguments are those of Twisted's own `ssl:`, which never reloads its files, and `clientCA`.
    Raises ValueError.
    """
    if _HIDDEN.match(description):
        raise ValueError("the PROXY header comes before TLS; write tls:haproxy:...")
    if _PREFIX.match(description) is None:
        return None
    _, *arguments = _ARGUMENT.findall(description)
    given: dict[str, Path] = {}
    rest = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in ("privateKey", "certKey", "extraCertChain", "clientCA"):
            given[name] = Path(_ESCAPED.sub(r"\1", value)).absolute()
        else:
            rest.append(argument)
    if "privateKey" not in given:
        raise ValueError("privateKey=FILE is missing (and certKey=FILE if the certificate is in another file)")
    if not rest:
        raise ValueError("the port is missing")
    if f"{rest[0]}:".startswith(("ssl:", "tls:")):
        raise ValueError("TLS inside TLS is not supported")
    files = Files(
        key=given["privateKey"],
        certificate=given.get("certKey", given["privateKey"]),
        chain=given.get("extraCertChain"),
        authorities=given.get("clientCA"),
    )
    return TLSDescription(":".join(["tcp", *rest] if rest[0].isdecimal() else rest), files)


@implementer(IStreamServerEndpoint)
class TLSEndpoint:
    """An endpoint with TLS over `inner`. `is_mutual` is set if clients need a certificate too."""

    def __init__(
        self, inner: IStreamServerEndpoint, files: ReloadingFiles[ForListener], clock: IReactorTime, *, is_mutual: bool
    ):
        self.is_mutual = is_mutual
        self._inner = inner
        self._files = files
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, as any endpoint does."""
        factory = _TLSFactory(_ServerConnections(self._files), False, protocolFactory, self._clock)
        return self._inner.listen(factory)


class _TLSFactory(TLSMemoryBIOFactory):
    """Twisted's factory, except that the wrapped factory may refuse a connection by returning
    None.
    """

    noisy = False

    # Twisted declares that every connection gets a protocol.
    def buildProtocol(self, addr: Any) -> Any:
        above = self.wrappedFactory.buildProtocol(addr)
        return None if above is None else self.protocol(self, above)


@implementer(IOpenSSLServerConnectionCreator)
class _ServerConnections:
    """Starts each connection with the certificate of the moment."""

    def __init__(self, files: ReloadingFiles[ForListener]) -> None:
        self._files = files

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._files.get().context, None)


@implementer(IPolicyForHTTPS)
class ClientPolicy:
    """Connections to others: verifies their host name, and sends our certificate if there is
    one.
    """

    def __init__(self, files: ReloadingFiles[ForClients]) -> None:
        self._files = files

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Raise Twisted's error for a name that no certificate can have."""
        loaded = self._files.get()
        return optionsForClientTLS(
            hostname.decode("ascii"),
            trustRoot=loaded.trust,
            acceptableProtocols=HTTP,
            extraCertificateOptions=dict(loaded.certificate_options),
        )
