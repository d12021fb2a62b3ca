"""Tokens of etcd: fetched with the user's password, and again when etcd refuses one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import AuthFailed
from rqdisco.backends.etcd.refusals import RefusalKind, read_refusal
from rqdisco.core.codec import UNREADABLE
from rqdisco.coroutines import run_in_background
from rqdisco.http_client.interfaces import ConnectionBroken, PostReply

PATH = "/v3/auth/authenticate"
# After a refusal etcd is not asked again for this long: it hashes each password for a tenth of a
# second.
REFUSED_SECONDS = 2.0
# What may follow "Authorization: ".
_TOKEN = re.compile(r"[!-~]{1,8000}")


class Credentials(msgspec.Struct, frozen=True):
    """A user of etcd and the password, which no text shows."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"


class Post(Protocol):
    """Sends one request to the endpoint of the moment, without a token."""

    def __call__(self, path: str, body: bytes) -> Deferred[PostReply]: ...


class _Granted(msgspec.Struct, frozen=True):
    token: str

    def __repr__(self) -> str:
        return "_Granted()"


class Tokens:
    """The token of all requests, None without credentials or while etcd has authentication switched
    off.
    """

    def __init__(
        self, credentials: Callable[[], Credentials] | None, post: Post, clock: IReactorTime, counts: EtcdCounts
    ) -> None:
        self.token: str | None = None
        # Whether a token must be fetched before the next request.
        self.is_due = credentials is not None
        self._credentials = credentials
        self._post = post
        self._clock = clock
        self._counts = counts
        self._refused: tuple[float, AuthFailed] | None = None
        self._waiting: list[Deferred[None]] = []

    def refuse(self, token: str | None) -> bool:
        """Have a new token fetched, unless `token`, which etcd refused, is an older one. Return
        False if there are no credentials.
        """
        if self._credentials is None:
            return False
        if token == self.token:
            self.is_due = True
        return True

    def renew(self) -> Deferred[None]:
        """Fetch a token at the endpoint of the moment; callers at the same time share it.

        Fails with AuthFailed, NotSent or ConnectionBroken.
        """
        if self._refused is not None and self._clock.seconds() < self._refused[0]:
            return fail(self._refused[1])
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            run_in_background(self._renew())
        return waiter

    async def _renew(self) -> None:
        outcome: Failure | None = None
        try:
            self.token = await self._fetch()
            self.is_due = False
            self._refused = None
        except AuthFailed as error:
            self._refused = self._clock.seconds() + REFUSED_SECONDS, error
            outcome = Failure()
        except Exception:
            outcome = Failure()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            # A waiter that was cancelled has fired already.
            if not waiter.called:
                waiter.callback(None) if outcome is None else waiter.errback(outcome)

    async def _fetch(self) -> str | None:
        self._counts.renewals += 1
        credentials = self._read_credentials()
        reply = await self._post(PATH, msgspec.json.encode(credentials))
        if reply.status == 200:
            return _read_token(reply.body)
        refusal = read_refusal(reply, credentials.password)
        if refusal.fate is RefusalKind.NO_AUTH:
            return None
        if refusal.fate in (RefusalKind.FORBIDDEN, RefusalKind.REFUSED):
            raise AuthFailed(refusal.reason)
        raise ConnectionBroken(refusal.reason)

    def _read_credentials(self) -> Credentials:
        assert self._credentials is not None
        try:
            return self._credentials()
        except OSError as error:
            raise AuthFailed(f"the password file cannot be read: {error.strerror}") from None


def _read_token(body: bytes) -> str:
    try:
        token = msgspec.json.decode(body, type=_Granted).token
    except UNREADABLE:
        # The error could show the token.
        raise ConnectionBroken("etcd's answer holds no token") from None
    if _TOKEN.fullmatch(token) is None:
        raise ConnectionBroken("etcd's token cannot be sent in a header")
    return token
