"""A daemon in memory that requires tokens, and one token of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.task import Clock

from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.security.tokens import SCOPES, Access, TokenRing, describe
from tests.support.backends import new_daemon
from tests.support.connections import Connection, request
from tests.support.daemon import create_id, register

A = "10.0.0.1:4001"
OTHER = "0a5306d9-5842-851c-a00f-72fe57b0eb16"
MAX_BODY = 2000
HOST = "192.0.2.7"


def secret(name: str) -> str:
    return f"rqd_{name}-0123456789abcdef"


class Guarded:
    """A daemon with a token for each scope, named after it, and with tokens bound to its one ID."""

    def __init__(self) -> None:
        self.access = Access(TokenRing())
        self.daemon = new_daemon(access=self.access, max_body=MAX_BODY)
        self.id = create_id(self.daemon)
        register(self.daemon, self.id, A)
        bound = [describe(f"{scope}-here", [scope], secret(f"{scope}-here"), self.id) for scope in ("read", "write")]
        elsewhere = [describe("elsewhere", ["read", "write"], secret("elsewhere"), OTHER)]
        unbound = [describe(scope, [scope], secret(scope)) for scope in SCOPES]
        self.access.ring = TokenRing([*unbound, *bound, *elsewhere])
        self.daemon.clock.advance(100)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = None,
        *,
        operators: bool = False,
        headers: Mapping[str, str] = MappingProxyType({}),
        **more: str,
    ) -> Any:
        """Return status, reason, headers and body of the answer, over a separate connection."""
        apis = self.daemon.apis
        site = Site(
            apis.operators() if operators else apis.public(),
            Clock(),
            SiteConfig(),
            lambda: 0.0,
        )
        connection = Connection(site, HOST)
        sent = {**headers, **more}
        if token is not None:
            sent["Authorization"] = f"Bearer {secret(token)}"
        connection.protocol.dataReceived(request(method, path, body, **sent))
        while any(call.getTime() <= self.daemon.clock.seconds() for call in self.daemon.clock.getDelayedCalls()):
            self.daemon.clock.advance(0)
        head, _, answered = connection.take().partition(b"\r\n\r\n")
        status_line, *rest = head.decode().split("\r\n")
        _, status, reason = status_line.split(" ", 2)
        got = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        return int(status), reason, got, answered.decode()
