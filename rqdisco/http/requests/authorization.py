"""Authorization of requests by token."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from copy import copy

from twisted.logger import Logger

from rqdisco.core.errors import NotAllowed, NotAuthenticated
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.limits.event_sampler import EventSampler
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.limits.rates import source_of
from rqdisco.security.tokens import Access, Right, Token
from rqdisco.telemetry.events import Event

_MAX_ID_LENGTH = 64


class Authorizer:
    """Authorizes requests by token. `now` returns the seconds of a monotonic clock.

    Refusals are logged once a minute for each peer and token. They are also events: a few each
    second for each client, and for all clients without a token together; the next event reports how
    many were left out.
    """

    def __init__(self, access: Access, now: Callable[[], float], telemetry: RequestTelemetry) -> None:
        self._access = access
        self._telemetry = telemetry
        self._throttle = LogThrottle(now)
        self._sampler = EventSampler(now)
        self._log = Logger()
        self._api = ""
        self._kind_of: Callable[[Request], str] = _kind_request

    def for_api(self, api: str, kind_of: Callable[[Request], str] | None = None) -> Authorizer:
        """Return a copy for one API that shares limits and tokens; `kind_of` returns the kind of
        event that a request attempts.
        """
        authorizer = copy(self)
        authorizer._api = api
        authorizer._kind_of = kind_of or _kind_request
        return authorizer

    def admit(self, request: Request, right: Right, discovery_id: str | None = None) -> Token:
        """Return the caller's token. Raises NotAuthenticated, NotAllowed."""
        try:
            return self._access.admit(secrets_in(request), right, discovery_id)
        except (NotAuthenticated, NotAllowed) as refusal:
            self._report(request, discovery_id, refusal)
            raise

    def lets_administer(self, request: Request) -> bool:
        """Report whether an admin sent the request."""
        try:
            return self._access.admit(secrets_in(request), "admin").is_admin
        except (NotAuthenticated, NotAllowed):
            return False

    def allows(self, request: Request, right: Right, discovery_id: str) -> bool:
        """Report whether the caller's token has a right on an ID; a lack of it is no refusal."""
        try:
            self._access.admit(secrets_in(request), right, discovery_id)
        except (NotAuthenticated, NotAllowed):
            return False
        return True

    def _report(self, request: Request, discovery_id: str | None, refusal: NotAuthenticated | NotAllowed) -> None:
        peer = request.client
        token = refusal.token if isinstance(refusal, NotAllowed) else None
        if self._throttle.is_due(f"{peer} {token}"):
            self._log.warn("refused", peer=str(peer), token=token, why=str(refusal))
        left_out = self._sampler.sample("" if peer is None else source_of(peer), token or "")
        if left_out is None:
            return
        self._telemetry.events.publish(
            Event(
                kind=self._kind_of(request),
                outcome="refused",
                api=self._api,
                id=(discovery_id or "")[:_MAX_ID_LENGTH],
                client=peer,
                token=token,
                request=self._telemetry.request_id(request),
                why=str(refusal),
                more={"left_out": left_out} if left_out else {},
                logged=False,
                counted=False,
            )
        )


def _kind_request(_: Request) -> str:
    return "request"


def secrets_in(request: Request) -> list[bytes]:
    """Return possible tokens: the value of X-Consul-Token, a Bearer token (RFC 6750), the password
    of Basic (RFC 7617).

    rqlite 3 to 6 can send only Basic, from the URL in their flags. Consul's clients send their own
    header; their Basic credentials may be meant for a proxy in front.
    """
    secrets = [value for value in request.headers_named(b"x-consul-token") if value]
    for value in request.headers_named(b"authorization"):
        scheme, _, rest = value.partition(b" ")
        scheme, rest = scheme.lower(), rest.strip()
        if scheme == b"bearer" and rest:
            secrets.append(rest)
        elif scheme == b"basic":
            secrets.append(_password(rest))
    return secrets


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
