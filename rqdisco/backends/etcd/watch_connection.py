"""Watches of keys and ranges over one connection, until it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from rqdisco.backends.etcd.auth import Tokens
from rqdisco.backends.etcd.endpoints import Endpoints
from rqdisco.backends.etcd.failures import AuthFailed, EtcdFailure, NotApplied
from rqdisco.backends.etcd.messages import WatchCreate, WatchResponse, encode
from rqdisco.backends.etcd.refusals import GATEWAY_OFF, MISFIT, RefusalKind, read_refusal, refusal_of_text
from rqdisco.backends.etcd.transport.interfaces import EtcdStream, StreamTransport
from rqdisco.core.codec import UNREADABLE
from rqdisco.http_client.interfaces import ConnectionBroken, NotSent, PostReply

PATH = "/v3/watch"


class _Create(msgspec.Struct, frozen=True):
    create_request: WatchCreate


class _StreamError(msgspec.Struct, frozen=True):
    message: str = ""


class _Line(msgspec.Struct, frozen=True):
    result: WatchResponse | None = None
    # A text if the answer is no stream.
    error: _StreamError | str | None = None


_decode = msgspec.json.Decoder(_Line, strict=False).decode


class Watch:
    """One connection to `endpoint`, with one or more watches.

    `received` is called for each response. One may say `canceled`: that watch has ended, and the
    others of the connection go on. `done` fires after `close`. When the connection ends otherwise,
    it fails with a kind of EtcdFailure, or with what `received` raised.
    """

    def __init__(
        self,
        streams: StreamTransport,
        endpoints: Endpoints,
        tokens: Tokens,
        creates: Sequence[WatchCreate],
        received: Callable[[WatchResponse], None],
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.close())
        self._streams = streams
        self._endpoints = endpoints
        self._tokens = tokens
        self._received = received
        self.endpoint = endpoints.current
        self._token: str | None = None
        self._stream: EtcdStream | None = None
        self._failure: EtcdFailure | None = None
        self._is_over = False
        # One body may hold several requests.
        self._body = b" ".join(encode(_Create(each)) for each in creates)
        self._opening = Deferred.fromCoroutine(self._run())
        self._opening.addBoth(self._ended)

    def close(self) -> None:
        """End the watches and the connection."""
        if self._is_over:
            return
        self._end(None)
        if self._stream is None:
            self._opening.cancel()
        else:
            self._stream.close()

    async def _run(self) -> None:
        endpoint = self.endpoint
        try:
            if self._tokens.is_due:
                await self._tokens.renew()
            self._token = self._tokens.token
            self._stream = self._streams.open(endpoint, PATH, self._body, self._token, self._take_line)
            if self._is_over or self._failure is not None:
                # A stream in memory may deliver lines at once.
                self._stream.close()
            await self._stream.done
        except (NotSent, ConnectionBroken) as error:
            if self._is_over:
                return
            self._endpoints.failed(endpoint)
            raise self._failure or NotApplied(str(error)) from None
        if self._is_over:
            return
        self._endpoints.failed(endpoint)
        raise self._failure or NotApplied("etcd ended the watch")

    def _take_line(self, line: bytes) -> None:
        if self._is_over or self._failure is not None:
            return
        try:
            message = _decode(line)
        except UNREADABLE:
            self._fail(NotApplied(MISFIT if _is_json(line) else GATEWAY_OFF))
            return
        if message.result is None:
            self._fail(self._read_error(line, message.error))
            return
        try:
            self._received(message.result)
        except Exception:
            self._end(Failure())
            if self._stream is not None:
                self._stream.close()

    def _read_error(self, line: bytes, error: _StreamError | str | None) -> EtcdFailure:
        """Return the failure of an error inside a stream, or of an answer that is no stream."""
        if isinstance(error, _StreamError):
            refusal = refusal_of_text(error.message, self._token)
        else:
            refusal = read_refusal(PostReply(200, line), self._token)
        if refusal.fate is RefusalKind.NO_TOKEN:
            is_renewed = self._tokens.refuse(self._token)
            return NotApplied(refusal.reason) if is_renewed else AuthFailed(refusal.reason)
        return AuthFailed(refusal.reason) if refusal.fate is RefusalKind.FORBIDDEN else NotApplied(refusal.reason)

    def _fail(self, failure: EtcdFailure) -> None:
        self._failure = failure
        if self._stream is not None:
            self._stream.close()

    def _ended(self, outcome: object) -> None:
        if isinstance(outcome, Failure) and outcome.check(CancelledError):
            outcome = None
        self._end(outcome if isinstance(outcome, Failure) else None)

    def _end(self, failure: Failure | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if failure is None:
            self.done.callback(None)
        else:
            self.done.errback(failure)


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except UNREADABLE:
        return False
    return True
