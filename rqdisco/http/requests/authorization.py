"""What a door that asks for tokens does before anything else: whose request it is, and whether it
may be made.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from copy import copy
from typing import Any

from twisted.logger import Logger

from rqdisco.core.errors import NotAllowed, NotAuthenticated
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.limits.event_sampler import EventSampler
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.limits.rates import source_of
from rqdisco.security.tokens import Access, Right, Token
from rqdisco.telemetry.events import Event

_MOST_OF_AN_ID = 64


class Authorizer:
    """Lets in who has a token with the right to what is asked. `now` gives the seconds of a
    monotonic clock.

    Who is turned away is in the log once a minute for each peer and token, and an event: a few each
    second for each client, and for all clients without a token together; the next one says how many
    were left out.
    """

    def __init__(self, access: Access, now: Callable[[], float], telemetry: RequestTelemetry) -> None:
        self._access = access
        self._telemetry = telemetry
        self._throttle = LogThrottle(now)
        self._sampler = EventSampler(now)
        self._log = Logger()
        self._api = ""
        self._attempted: Callable[[Any], str] = _a_request

    def at(self, api: str, attempted: Callable[[Any], str] | None = None) -> Authorizer:
        """The same, as it stands before one door; `attempted` gives the kind of event that a
        request is an attempt at.
        """
        authorizer = copy(self)
        authorizer._api = api
        authorizer._attempted = attempted or _a_request
        return authorizer

    def admit(self, request: Any, right: Right, discovery_id: str | None = None) -> Token:
        """The caller's token. Raises NotAuthenticated, NotAllowed."""
        try:
            return self._access.admit(secrets_in(request.requestHeaders), right, discovery_id)
        except (NotAuthenticated, NotAllowed) as refusal:
            self._tell(request, discovery_id, refusal)
            raise

    def lets_administer(self, headers: Any) -> bool:
        """Whether these are the headers of somebody who may do everything."""
        try:
            return self._access.admit(secrets_in(headers), "admin").is_admin
        except (NotAuthenticated, NotAllowed):
            return False

    def _tell(self, request: Any, discovery_id: str | None, refusal: NotAuthenticated | NotAllowed) -> None:
        peer: str | None = getattr(request.getClientAddress(), "host", None)
        token = refusal.token if isinstance(refusal, NotAllowed) else None
        if self._throttle.is_due(f"{peer} {token}"):
            self._log.warn("refused", peer=str(peer), token=token, why=str(refusal))
        left_out = self._sampler.sample("" if peer is None else source_of(peer), token or "")
        if left_out is None:
            return
        self._telemetry.events.publish(
            Event(
                kind=self._attempted(request),
                outcome="refused",
                api=self._api,
                id=(discovery_id or "")[:_MOST_OF_AN_ID],
                client=peer,
                token=token,
                request=self._telemetry.name(request),
                why=str(refusal),
                more={"left_out": left_out} if left_out else {},
                logged=False,
                counted=False,
            )
        )


def _a_request(_: Any) -> str:
    return "request"


def secrets_in(headers: Any) -> list[bytes]:
    """What may be a token: the value of X-Consul-Token, a Bearer token (RFC 6750), the password of
    Basic (RFC 7617).

    rqlite 3 to 6 can send nothing but Basic, from the URL they are given; Consul's clients send its
    own header, and then Basic may be meant for a proxy in front.
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
