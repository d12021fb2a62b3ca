"""The door for peers: what comes in by HTTP is authenticated, and handed to what answers it."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from rqdisco.backends.gossip.transport.http_link import PATH, Keys
from rqdisco.backends.gossip.transport.links import BadMessage, Handler, Misdirected, NotGreeted, PeerError, Rejected
from rqdisco.backends.gossip.transport.seals import (
    KEY_HEADER,
    SESSION_HEADER,
    Begun,
    BegunSessions,
    answer_parts,
    ask_parts,
    greeting_parts,
    hello_parts,
    session_parts,
)
from rqdisco.core.ids import RandomBytes
from rqdisco.limits.log_throttle import LogThrottle

MOST_BYTES = 4 << 20
# Enough for a greeting, and all that is kept of what strangers send.
STRANGERS_BYTES = 64 << 10
_VERB = re.compile(re.escape(PATH) + rb"([a-z]{1,20})\Z")
_STATUS: dict[type[BaseException], int] = {NotGreeted: 401, Rejected: 403, Misdirected: 421, BadMessage: 400}


class PeerResource(Resource):
    """Answers `POST /peers/1/VERB` of who shares a key with this daemon, and nobody else."""

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(self, handler: Handler, keys: Keys, clock: IReactorTime, random: RandomBytes) -> None:
        super().__init__()
        self._handler = handler
        self._keys = keys
        self._random = random
        self._sessions = BegunSessions()
        self._strangers = LogThrottle(clock.seconds)
        self._log = Logger()

    def keys_changed(self) -> None:
        """End what was begun with keys that are in the ring no more."""
        self._sessions.keep_only({key.name for key in self._keys.ring.keys})

    def may_send_more(self, headers: Headers) -> bool:
        """Whether these are the headers of a message within a session, which may have up to
        MOST_BYTES.
        """
        words = (headers.getRawHeaders(SESSION_HEADER) or [b""])[-1].decode("ascii", "replace").split()
        return len(words) == 3 and self._sessions.find(words[0]) is not None

    def render(self, request: Any) -> Any:
        verb = _VERB.match(request.path)
        if verb is None or request.method != b"POST":
            return _put(request, 404, b"nothing but peers is answered here\n")
        content = request.content.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            return _put(request, 413, b"too large\n")
        if verb[1] == b"hello":
            return self._greet(request, content)
        return self._serve(request, verb[1].decode(), content)

    def _greet(self, request: Any, content: bytes) -> bytes:
        words = _words(request, KEY_HEADER)
        key = self._keys.ring.find(words[0]) if len(words) == 3 else None
        if key is None or not key.is_sealed(words[2], *hello_parts(request.path, words[1], content)):
            self._stranger(request, words)
            return _put(request, 401, b"no key that is known here\n")
        try:
            session, body = self._handler.greet(content)
            status = 200
        except PeerError as error:
            session, body, status = "-", str(error).encode(), _STATUS.get(type(error), 400)
        nonce = self._random(16).hex()
        if status == 200:
            self._sessions.add(session, Begun(key.derive(*session_parts(words[2], session, nonce))))
        seal = key.seal(*greeting_parts(words[2], session, nonce, body))
        request.setHeader(KEY_HEADER, f"{session} {nonce} {seal}".encode())
        return _put(request, status, body)

    def _serve(self, request: Any, verb: str, content: bytes) -> Any:
        words = _words(request, SESSION_HEADER)
        begun = self._sessions.find(words[0]) if len(words) == 3 and words[1].isdecimal() else None
        if begun is None:
            return _put(request, 401, b"greet again\n")
        session, counter, seal = words[0], int(words[1][:20]), words[2]
        if not begun.key.is_sealed(seal, *ask_parts(request.path, session, counter, content)):
            self._stranger(request, words)
            return _put(request, 401, b"not sealed with the session's key\n")
        if not begun.counters.accept(counter):
            return _put(request, 409, b"said before\n")
        self._sessions.confirm(session)
        serving = Deferred.fromCoroutine(self._handler.serve(session, verb, content))
        finished = request.notifyFinish()
        finished.addErrback(lambda _: serving.cancel())

        def answer(result: bytes | Failure) -> None:
            if finished.called:
                return
            status, body = (200, result) if isinstance(result, bytes) else self._failed(result)
            if status != 401:
                sealed = begun.key.seal(*answer_parts(seal, status, body))
                request.setHeader(SESSION_HEADER, sealed.encode())
            request.write(_put(request, status, body))
            request.finish()

        serving.addBoth(answer)
        return NOT_DONE_YET

    def _failed(self, failure: Failure) -> tuple[int, bytes]:
        error = failure.value
        for kind, status in _STATUS.items():
            if isinstance(error, kind):
                return status, str(error).encode()
        if not isinstance(error, CancelledError):
            self._log.failure("a peer's message failed", failure)
        return 500, b"internal error"

    def _stranger(self, request: Any, words: list[str]) -> None:
        """Log who has another key, each once a minute."""
        host = str(getattr(request.getClientAddress(), "host", None))
        if not self._strangers.is_due(host):
            return
        name = words[0][:16] if words and words[0].isalnum() else "none"
        self._log.error("a peer has a wrong key", peer=host, key=name)


def _put(request: Any, status: int, body: bytes) -> bytes:
    request.setResponseCode(status)
    # Peers know what it is, and go by no clock of another machine.
    request.defaultContentType = None
    request.responseHeaders.removeHeader(b"date")
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def _words(request: Any, header: bytes) -> list[str]:
    value: bytes = request.getHeader(header) or b""
    return value.decode("ascii", "replace").split()
