"""How messages between peers are sealed, so that nobody else can make, change or repeat one. No
clock is asked.

    hello:   Rqdisco-Key: NAME NONCE SEAL             under a key of the ring
    answer:  Rqdisco-Key: SESSION NONCE SEAL          the same key; both nonces and the session make the session's key
    ask:     Rqdisco-Session: SESSION COUNTER SEAL    under the session's key; a counter is accepted once
    answer:  Rqdisco-Session: SEAL                    bound to what it answers and to its status

Everything sealed begins with what it is, so that no seal can be used for anything else; receiver
and sender are those who made the session's key, which takes an answer of the receiver itself.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from rqdisco.backends.gossip.transport.keyring import PeerKey

KEY_HEADER = b"rqdisco-key"
SESSION_HEADER = b"rqdisco-session"
_WINDOW = 1024
_MOST = 256


class Counters:
    """The counters that one session has seen: messages may come out of order, on several
    connections, but once.
    """

    def __init__(self) -> None:
        self._highest = 0
        self._seen: set[int] = set()

    def accept(self, counter: int) -> bool:
        """Whether a message is the first with its counter; one that is far behind is not told apart
        from a repeated one.
        """
        if counter in self._seen or counter <= self._highest - _WINDOW or counter < 1:
            return False
        self._seen.add(counter)
        if counter > self._highest:
            self._highest = counter
            if len(self._seen) > 2 * _WINDOW:
                self._seen = {each for each in self._seen if each > counter - _WINDOW}
        return True


class Begun:
    """A session that this daemon answered a hello with."""

    def __init__(self, key: PeerKey) -> None:
        self.key = key
        self.counters = Counters()
        self.is_confirmed = False


class BegunSessions:
    """Sessions by their names, as many as there may be; those that nobody ever used go first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Begun] = OrderedDict()

    def add(self, name: str, begun: Begun) -> None:
        """Keep a session."""
        self._sessions[name] = begun
        if len(self._sessions) > _MOST:
            unused = next((each for each, begun in self._sessions.items() if not begun.is_confirmed), None)
            self._sessions.pop(unused or next(iter(self._sessions)))

    def find(self, name: str) -> Begun | None:
        """The session of that name."""
        return self._sessions.get(name)

    def confirm(self, name: str) -> None:
        """Somebody who has its key used it."""
        self._sessions[name].is_confirmed = True
        self._sessions.move_to_end(name)

    def keep_only(self, key_names: set[str]) -> None:
        """End the sessions that were begun under other keys."""
        for name, begun in list(self._sessions.items()):
            if begun.key.name not in key_names:
                del self._sessions[name]


def hello_parts(path: bytes, nonce: str, body: bytes) -> tuple[bytes, ...]:
    """What the seal of a hello covers."""
    return b"rqdisco hello", path, nonce.encode(), _digest(body)


def greeting_parts(hello_seal: str, session: str, nonce: str, body: bytes) -> tuple[bytes, ...]:
    """What the seal of the answer to a hello covers."""
    return b"rqdisco greeting", hello_seal.encode(), session.encode(), nonce.encode(), _digest(body)


def session_parts(hello_seal: str, session: str, nonce: str) -> tuple[bytes, ...]:
    """What the key of a session is made of."""
    return b"rqdisco session", hello_seal.encode(), session.encode(), nonce.encode()


def ask_parts(path: bytes, session: str, counter: int, body: bytes) -> tuple[bytes, ...]:
    """What the seal of a message covers."""
    return b"rqdisco ask", path, session.encode(), b"%d" % counter, _digest(body)


def answer_parts(ask_seal: str, status: int, body: bytes) -> tuple[bytes, ...]:
    """What the seal of an answer covers."""
    return b"rqdisco answer", ask_seal.encode(), b"%d" % status, _digest(body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
