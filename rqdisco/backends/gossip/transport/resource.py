"""The HTTP resource for peers: authenticates messages and passes them to the handler."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.gossip.core.peer_errors import BadMessage, Misdirected, NotGreeted, Rejected
from rqdisco.backends.gossip.transport import seals
from rqdisco.backends.gossip.transport.http_link import PATH, Keys
from rqdisco.backends.gossip.transport.links import MessageHandler
from rqdisco.core.ids import RandomBytes
from rqdisco.limits.log_throttle import LogThrottle

MAX_BYTES = 4 << 20
# Enough for a greeting, and all that is read from unauthenticated senders.
UNAUTHENTICATED_BYTES = 64 << 10
Headers = tuple[tuple[bytes, bytes], ...]
_VERB = re.compile(re.escape(PATH) + rb"([a-z]{1,20})\Z")
_STATUS: dict[type[BaseException], int] = {NotGreeted: 401, Rejected: 403, Misdirected: 421, BadMessage: 400}


class PeerRequest(Protocol):
    """The part of an HTTP request that messages of peers need."""

    method: bytes
    path: bytes
    body: bytes
    client: str | None
    is_body_too_large: bool

    def header(self, name: bytes) -> bytes | None: ...
    def answer(self, status: int, reason: bytes, body: bytes, headers: Headers = ...) -> None: ...
    def on_abandoned(self, call: Callable[[], object]) -> None: ...


class PeerResource:
    """Answers `POST /peers/1/VERB` for daemons that share a key, and nobody else."""

    def __init__(self, handler: MessageHandler, keys: Keys, clock: IReactorTime, random: RandomBytes) -> None:
        self._handler = handler
        self._keys = keys
        self._random = random
        self._sessions = seals.SealedSessions()
        self._wrong_key_throttle = LogThrottle(clock.seconds)
        self._log = Logger()

    def keys_changed(self) -> None:
        """End sessions begun with keys that are no longer in the ring."""
        self._sessions.keep_only({key.name for key in self._keys.ring.keys})

    def max_body(self, request: PeerRequest) -> int:
        """Return MAX_BYTES for a message of a session, less for one that begins a session."""
        fields = _header_fields(request, seals.SESSION_HEADER)
        is_known = len(fields) == 3 and self._sessions.find(fields[0]) is not None
        return MAX_BYTES if is_known else UNAUTHENTICATED_BYTES

    def handle(self, request: PeerRequest) -> None:
        """Answer a message."""
        verb = _VERB.match(request.path)
        if verb is None or request.method != b"POST":
            _respond(request, 404, b"this listener serves peers only\n")
        elif request.is_body_too_large:
            self._refuse_size(request)
        elif verb[1] == b"hello":
            self._greet(request, request.body)
        else:
            self._serve(request, verb[1].decode(), request.body)

    def _refuse_size(self, request: PeerRequest) -> None:
        """Answer 413; a peer whose session has ended is told so, since a new one allows more."""
        if self.max_body(request) == MAX_BYTES:
            _respond(request, 413, b"too large\n")
        else:
            _respond(request, 401, b"greet again\n")

    def _greet(self, request: PeerRequest, content: bytes) -> None:
        fields = _header_fields(request, seals.KEY_HEADER)
        key = self._keys.ring.find(fields[0]) if len(fields) == 3 else None
        if key is None or not key.is_sealed(fields[2], *seals.hello_parts(request.path, fields[1], content)):
            self._log_wrong_key(request, fields)
            _respond(request, 401, b"unknown key\n")
            return
        greeting = self._handler.greet(content)
        request.on_abandoned(greeting.cancel)

        def respond(result: tuple[str, bytes] | Failure) -> None:
            if self._keys.ring.find(key.name) is None:
                # The key was removed from the ring meanwhile.
                _respond(request, 401, b"unknown key\n")
                return
            status, session, nonce = 200, "-", self._random(16).hex()
            if isinstance(result, Failure):
                status, body = self._failed(result)
            else:
                session, body = result
                self._sessions.add(
                    session, seals.SealedSession(key.derive(*seals.session_parts(fields[2], session, nonce)))
                )
            seal = key.seal(*seals.greeting_parts(fields[2], session, nonce, body))
            _respond(request, status, body, ((seals.KEY_HEADER, f"{session} {nonce} {seal}".encode()),))

        greeting.addBoth(respond)

    def _serve(self, request: PeerRequest, verb: str, content: bytes) -> None:
        fields = _header_fields(request, seals.SESSION_HEADER)
        session = self._sessions.find(fields[0]) if len(fields) == 3 and fields[1].isdecimal() else None
        if session is None:
            _respond(request, 401, b"greet again\n")
            return
        name, counter, seal = fields[0], int(fields[1][:20]), fields[2]
        if not session.key.is_sealed(seal, *seals.request_parts(request.path, name, counter, content)):
            self._log_wrong_key(request, fields)
            _respond(request, 401, b"not sealed with the session's key\n")
            return
        if not session.replay_window.accept(counter):
            _respond(request, 409, b"replayed message\n")
            return
        self._sessions.mark_used(name)
        serving = self._handler.serve(name, verb, content)
        request.on_abandoned(serving.cancel)

        def respond(result: bytes | Failure) -> None:
            status, body = (200, result) if isinstance(result, bytes) else self._failed(result)
            if status == 401:
                _respond(request, status, body)
                return
            sealed = session.key.seal(*seals.answer_parts(seal, status, body))
            _respond(request, status, body, ((seals.SESSION_HEADER, sealed.encode()),))

        serving.addBoth(respond)

    def _failed(self, failure: Failure) -> tuple[int, bytes]:
        error = failure.value
        for kind, status in _STATUS.items():
            if isinstance(error, kind):
                return status, str(error).encode()
        if not isinstance(error, CancelledError):
            self._log.failure("peer message failed", failure)
        return 500, b"internal error"

    def _log_wrong_key(self, request: PeerRequest, fields: list[str]) -> None:
        """Log a sender with a wrong key, once a minute per host."""
        host = str(request.client)
        if not self._wrong_key_throttle.is_due(host):
            return
        name = fields[0][:16] if fields and fields[0].isalnum() else "none"
        self._log.error("a peer has a wrong key", peer=host, key=name)


def _respond(request: PeerRequest, status: int, body: bytes, headers: Headers = ()) -> None:
    # Peers know the content type.
    request.answer(status, HTTPStatus(status).phrase.encode(), body, headers)


def _header_fields(request: PeerRequest, header: bytes) -> list[str]:
    return (request.header(header) or b"").decode("ascii", "replace").split()
