"""What a door that asks for tokens does before anything else: whose request it is, and whether it may be made."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from rqdisco.access.tokens import Access, Right, Token
from rqdisco.errors import NotAllowed, NotAuthenticated
from rqdisco.limits.seldom import Seldom


class Gate:
    """Lets in who has a token with the right to what is asked. `now` gives the seconds of a monotonic clock."""

    def __init__(self, access: Access, now: Callable[[], float]) -> None:
        self._access = access
        self._seldom = Seldom(now)
        self._log = Logger()

    def admit(self, request: Any, right: Right, discovery_id: str | None = None) -> Token:
        """The caller's token. Raises NotAuthenticated, NotAllowed; both are in the log once a minute for each peer."""
        try:
            return self._access.admit(secrets_in(request.requestHeaders), right, discovery_id)
        except (NotAuthenticated, NotAllowed) as refusal:
            peer = str(getattr(request.getClientAddress(), "host", None))
            token = refusal.token if isinstance(refusal, NotAllowed) else None
            if self._seldom.is_due(f"{peer} {token}"):
                self._log.warn("refused", peer=peer, token=token, why=str(refusal))
            raise

    def lets_administer(self, headers: Any) -> bool:
        """Whether these are the headers of somebody who may do everything."""
        try:
            return self._access.admit(secrets_in(headers), "admin").is_admin
        except (NotAuthenticated, NotAllowed):
            return False


def secrets_in(headers: Any) -> list[bytes]:
    """What may be a token: the value of X-Consul-Token, a Bearer token (RFC 6750), the password of Basic (RFC 7617).

    rqlite 3 to 6 can send nothing but Basic, from the URL they are given; Consul's clients send its own header, and
    then Basic may be meant for a proxy in front.
    """
    found = [value for value in headers.getRawHeaders(b"x-consul-token", ()) if value]
    for value in headers.getRawHeaders(b"authorization", ()):
        scheme, _, rest = value.partition(b" ")
        scheme, rest = scheme.lower(), rest.strip()
        if scheme == b"bearer" and rest:
            found.append(rest)
        elif scheme == b"basic":
            found.append(_password(rest))
    return found


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
