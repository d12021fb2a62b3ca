"""TLS for listeners, as it is described, and for connections to them.

Never less than TLS 1.2 is spoken, which is Twisted's own least.
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
# Arguments are separated by colons; a backslash takes its meaning from whatever follows
# (twisted.internet.endpoints).
_ARGUMENT = re.compile(r"(?:^|:)((?:\\.|[^\\:])*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class TLSDescription(msgspec.Struct, frozen=True):
    """A listener with TLS: the description of what is below, and the files."""

    inner: str
    files: Files


def parse_description(description: str) -> TLSDescription | None:
    """`ssl:4000:privateKey=FILE:certKey=FILE`, or `tls:` and any other description with these
    arguments; else None.

    The arguments are those of Twisted's own `ssl:`, which reads its files once, and `clientCA`.
    Raises ValueError.
    """
    if _HIDDEN.match(description):
        raise ValueError("TLS is inside of HAProxy's protocol, so it is written tls:haproxy:...")
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
        raise ValueError("privateKey=FILE is missing, and certKey=FILE if the certificate is in another file")
    if not rest:
        raise ValueError("there is no port")
    if f"{rest[0]}:".startswith(("ssl:", "tls:")):
        raise ValueError("TLS in TLS")
    files = Files(
        key=given["privateKey"],
        certificate=given.get("certKey", given["privateKey"]),
        chain=given.get("extraCertChain"),
        authorities=given.get("clientCA"),
    )
    return TLSDescription(":".join(["tcp", *rest] if rest[0].isdecimal() else rest), files)


@implementer(IStreamServerEndpoint)
class TLSEndpoint:
    """Speaks TLS on what `inner` listens on; `is_mutual` says that clients need a certificate,
    too.
    """

    def __init__(
        self, inner: IStreamServerEndpoint, kept: ReloadingFiles[ForListener], clock: IReactorTime, *, is_mutual: bool
    ):
        self.is_mutual = is_mutual
        self._inner = inner
        self._kept = kept
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, as any endpoint does."""
        below = _Below(_Accepting(self._kept), False, protocolFactory, self._clock)
        return self._inner.listen(below)


class _Below(TLSMemoryBIOFactory):
    """Twisted's own, but for those that are to be closed as they come."""

    def buildProtocol(self, addr: Any) -> Any:
        above = self.wrappedFactory.buildProtocol(addr)
        return None if above is None else self.protocol(self, above)


@implementer(IOpenSSLServerConnectionCreator)
class _Accepting:
    """Begins each connection with what is kept then."""

    def __init__(self, kept: ReloadingFiles[ForListener]) -> None:
        self._kept = kept

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._kept.get().context, None)


@implementer(IPolicyForHTTPS)
class Policy:
    """How connections are made: to who proves to be whom we ask for, with our own certificate if
    there is one.
    """

    def __init__(self, kept: ReloadingFiles[ForClients]) -> None:
        self._kept = kept

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Raises what Twisted does for a name that no certificate can have."""
        made = self._kept.get()
        extra = {} if made.certificate is None else {"extraCertChain": list(made.chain)}
        return optionsForClientTLS(
            hostname.decode("ascii"),
            trustRoot=made.trust,
            clientCertificate=made.certificate,
            acceptableProtocols=HTTP,
            extraCertificateOptions=extra,
        )
