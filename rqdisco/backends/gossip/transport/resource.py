"""The HTTP resource for peers: authenticates messages and passes them to the handler."""

from __future__ import annotations

import re

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rqdisco.backends.gossip.transport.http_link import PATH, Keys
from rqdisco.backends.gossip.transport.links import (
    BadMessage,
    MessageHandler,
    Misdirected,
    NotGreeted,
    PeerError,
    Rejected,
)
from rqdisco.backends.gossip.transport.seals import (
    KEY_HEADER,
    SESSION_HEADER,
    SealedSession,
    SealedSessions,
    answer_parts,
    greeting_parts,
    hello_parts,
    request_parts,
    session_parts,
)
from rqdisco.core.ids import RandomBytes
from rqdisco.limits.log_throttle import LogThrottle

MAX_BYTES = 4 << 20
# Enough for a greeting, and all that is read from unauthenticated senders.
UNAUTHENTICATED_BYTES = 64 << 10
_VERB = re.compile(re.escape(PATH) + rb"([a-z]{1,20})\Z")
_STATUS: dict[type[BaseException], int] = {NotGreeted: 401, Rejected: 403, Misdirected: 421, BadMessage: 400}


class PeerResource(Resource):
    """Answers `POST /peers/1/VERB` for daemons that share a key, and nobody else."""

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(self, handler: MessageHandler, keys: Keys, clock: IReactorTime, random: RandomBytes) -> None:
        super().__init__()
        self._handler = handler
        self._keys = keys
        self._random = random
        self._sessions = SealedSessions()
        self._wrong_key_throttle = LogThrottle(clock.seconds)
        self._log = Logger()

    def keys_changed(self) -> None:
        """End sessions begun with keys that are no longer in the ring."""
        self._sessions.keep_only({key.name for key in self._keys.ring.keys})

    def may_send_more(self, headers: Headers) -> bool:
        """Report whether the headers belong to a session, whose messages may have up to
        MAX_BYTES.
        """
        fields = (headers.getRawHeaders(SESSION_HEADER) or [b""])[-1].decode("ascii", "replace").split()
        return len(fields) == 3 and self._sessions.find(fields[0]) is not None

    def render(self, request: Request) -> bytes | int:
        verb = _VERB.match(request.path)
        if verb is None or request.method != b"POST":
            return _set_response(request, 404, b"this listener serves peers only\n")
        assert request.content is not None
        content = request.content.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return _set_response(request, 413, b"too large\n")
        if verb[1] == b"hello":
            return self._greet(request, content)
        return self._serve(request, verb[1].decode(), content)

    def _greet(self, request: Request, content: bytes) -> bytes:
        fields = _header_fields(request, KEY_HEADER)
        key = self._keys.ring.find(fields[0]) if len(fields) == 3 else None
        if key is None or not key.is_sealed(fields[2], *hello_parts(request.path, fields[1], content)):
            self._log_wrong_key(request, fields)
            return _set_response(request, 401, b"unknown key\n")
        try:
            session, body = self._handler.greet(content)
            status = 200
        except PeerError as error:
            session, body, status = "-", str(error).encode(), _STATUS.get(type(error), 400)
        nonce = self._random(16).hex()
        if status == 200:
            self._sessions.add(session, SealedSession(key.derive(*session_parts(fields[2], session, nonce))))
        seal = key.seal(*greeting_parts(fields[2], session, nonce, body))
        request.setHeader(KEY_HEADER, f"{session} {nonce} {seal}".encode())
        return _set_response(request, status, body)

    def _serve(self, request: Request, verb: str, content: bytes) -> bytes | int:
        fields = _header_fields(request, SESSION_HEADER)
        session = self._sessions.find(fields[0]) if len(fields) == 3 and fields[1].isdecimal() else None
        if session is None:
            return _set_response(request, 401, b"greet again\n")
        name, counter, seal = fields[0], int(fields[1][:20]), fields[2]
        if not session.key.is_sealed(seal, *request_parts(request.path, name, counter, content)):
            self._log_wrong_key(request, fields)
            return _set_response(request, 401, b"not sealed with the session's key\n")
        if not session.replay_window.accept(counter):
            return _set_response(request, 409, b"replayed message\n")
        self._sessions.mark_used(name)
        serving = Deferred.fromCoroutine(self._handler.serve(name, verb, content))
        finished = request.notifyFinish()
        finished.addErrback(lambda _: serving.cancel())

        def respond(result: bytes | Failure) -> None:
            if finished.called:
                return
            status, body = (200, result) if isinstance(result, bytes) else self._failed(result)
            if status != 401:
                sealed = session.key.seal(*answer_parts(seal, status, body))
                request.setHeader(SESSION_HEADER, sealed.encode())
            request.write(_set_response(request, status, body))
            request.finish()

        serving.addBoth(respond)
        return NOT_DONE_YET

    def _failed(self, failure: Failure) -> tuple[int, bytes]:
        error = failure.value
        for kind, status in _STATUS.items():
            if isinstance(error, kind):
                return status, str(error).encode()
        if not isinstance(error, CancelledError):
            self._log.failure("peer message failed", failure)
        return 500, b"internal error"

    def _log_wrong_key(self, request: Request, fields: list[str]) -> None:
        """Log a sender with a wrong key, once a minute per host."""
        host = str(getattr(request.getClientAddress(), "host", None))
        if not self._wrong_key_throttle.is_due(host):
            return
        name = fields[0][:16] if fields and fields[0].isalnum() else "none"
        self._log.error("a peer has a wrong key", peer=host, key=name)


def _set_response(request: Request, status: int, body: bytes) -> bytes:
    request.setResponseCode(status)
    # Peers know the content type, and use no clock of another machine.
    request.defaultContentType = None
    request.responseHeaders.removeHeader(b"date")
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def _header_fields(request: Request, header: bytes) -> list[str]:
    value: bytes = request.getHeader(header) or b""
    return value.decode("ascii", "replace").split()
