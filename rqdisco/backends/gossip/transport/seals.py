"""The input of each message's seal, and the state with which a receiver rejects replays.

A seal is a truncated HMAC (`PeerKey.seal`): without the key nobody can create, change or replay a
message. HTTPLink (sender) and PeerResource (receiver) seal and check. No clock is used.

    hello:   Rqdisco-Key: NAME NONCE SEAL             under a key of the ring
    answer:  Rqdisco-Key: SESSION NONCE SEAL          the same key; both nonces and the session make the session's key
    request: Rqdisco-Session: SESSION COUNTER SEAL    under the session's key; a counter is accepted once
    answer:  Rqdisco-Session: SEAL                    bound to the request and to its own status

Sealed content begins with its purpose, so that no seal serves another one. The content need not
name sender and receiver: only they know the session key, which the receiver's own answer helped to
derive.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from rqdisco.backends.gossip.transport.keyring import PeerKey

KEY_HEADER = b"rqdisco-key"
SESSION_HEADER = b"rqdisco-session"
_WINDOW = 1024
_MAX_SESSIONS = 256


class ReplayWindow:
    """The request counters seen in a session: messages may be reordered, but each is accepted
    once.
    """

    def __init__(self) -> None:
        self._highest = 0
        self._seen: set[int] = set()

    def accept(self, counter: int) -> bool:
        """Report whether a message is the first with its counter. One too far behind the highest
        counts as a replay.
        """
        if counter in self._seen or counter <= self._highest - _WINDOW or counter < 1:
            return False
        self._seen.add(counter)
        if counter > self._highest:
            self._highest = counter
            if len(self._seen) > 2 * _WINDOW:
                self._seen = {each for each in self._seen if each > counter - _WINDOW}
        return True


class SealedSession:
    """A session begun by a hello that this daemon answered."""

    def __init__(self, key: PeerKey) -> None:
        self.key = key
        self.replay_window = ReplayWindow()
        # Whether a holder of the session's key has sent a message.
        self.is_used = False


class SealedSessions:
    """A bounded set of sessions by name; those never used are dropped first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, SealedSession] = OrderedDict()

    def add(self, name: str, session: SealedSession) -> None:
        """Add a session."""
        self._sessions[name] = session
        if len(self._sessions) > _MAX_SESSIONS:
            unused = next((each for each, session in self._sessions.items() if not session.is_used), None)
            self._sessions.pop(unused or next(iter(self._sessions)))

    def find(self, name: str) -> SealedSession | None:
        """Return a session by name."""
        return self._sessions.get(name)

    def mark_used(self, name: str) -> None:
        """Mark a session as used by a holder of its key."""
        self._sessions[name].is_used = True
        self._sessions.move_to_end(name)

    def keep_only(self, key_names: set[str]) -> None:
        """End the sessions begun with other keys."""
        for name, session in list(self._sessions.items()):
            if session.key.name not in key_names:
                del self._sessions[name]


def hello_parts(path: bytes, nonce: str, body: bytes) -> tuple[bytes, ...]:
    """Return what the seal of a hello covers."""
    return b"rqdisco hello", path, nonce.encode(), _hash(body)


def greeting_parts(hello_seal: str, session: str, nonce: str, body: bytes) -> tuple[bytes, ...]:
    """Return what the seal of the answer to a hello covers."""
    return b"rqdisco greeting", hello_seal.encode(), session.encode(), nonce.encode(), _hash(body)


def session_parts(hello_seal: str, session: str, nonce: str) -> tuple[bytes, ...]:
    """Return what a session's key is derived from."""
    return b"rqdisco session", hello_seal.encode(), session.encode(), nonce.encode()


def request_parts(path: bytes, session: str, counter: int, body: bytes) -> tuple[bytes, ...]:
    """Return what the seal of a request covers."""
    return b"rqdisco ask", path, session.encode(), b"%d" % counter, _hash(body)


def answer_parts(request_seal: str, status: int, body: bytes) -> tuple[bytes, ...]:
    """Return what the seal of an answer covers."""
    return b"rqdisco answer", request_seal.encode(), b"%d" % status, _hash(body)


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
