"""The HTTP link to a peer."""

from __future__ import annotations

from functools import partial
from typing import NoReturn, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rqdisco.backends.gossip.core.peer_errors import (
    BadMessage,
    Misdirected,
    NotGreeted,
    PeerError,
    PeerUnreachable,
    Rejected,
)
from rqdisco.backends.gossip.transport import seals
from rqdisco.backends.gossip.transport.keyring import KeyRing, PeerKey
from rqdisco.core.ids import RandomBytes
from rqdisco.http_client.client import head_of
from rqdisco.http_client.interfaces import ConnectionBroken, NotSent, PostReply

PATH = b"/peers/1/"
# The owner answers a call after its own messages, such as the push of a grant to the very sender.
_CALL = PATH + b"call"
_KINDS: dict[int, type[PeerError]] = {400: BadMessage, 403: Rejected, 421: Misdirected}


class Keys:
    """The key ring in use, which may be replaced between messages."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring


class PostClient(Protocol):
    """Sends POSTs, as `HTTPClient` does."""

    def post(
        self, server: str, head: bytes, body: bytes, seconds: float, *, waits_for_others: bool = False
    ) -> Deferred[PostReply]: ...


class HTTPLink:
    """A Link to the daemon at `url`; `client` and `keys` are shared by all links of a daemon."""

    def __init__(self, url: str, client: PostClient, keys: Keys, random: RandomBytes) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._keys = keys
        self._random = random
        self._session: str | None = None
        self._key = keys.ring.signing
        self._counter = 0
        self._heads: dict[bytes, bytes] = {}

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        key, nonce, path = self._keys.ring.signing, self._random(16).hex(), PATH + b"hello"
        seal = key.seal(*seals.hello_parts(path, nonce, hello))
        header = f"{key.name} {nonce} {seal}"
        posted = self._post(path, seals.KEY_HEADER, header, hello, seconds)
        return posted.addCallbacks(partial(self._greeted, key, seal), _fail)

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        session, key = self._session, self._key
        if session is None or self._keys.ring.find(key.name) is None:
            return fail(NotGreeted())
        self._counter += 1
        path = PATH + verb.encode()
        seal = key.seal(*seals.request_parts(path, session, self._counter, body))
        posted = self._post(path, seals.SESSION_HEADER, f"{session} {self._counter} {seal}", body, seconds)
        return posted.addCallbacks(partial(self._answered, session, key, seal), _fail)

    def _greeted(self, key: PeerKey, seal: str, reply: PostReply) -> bytes:
        fields = _header_fields(reply, seals.KEY_HEADER)
        if len(fields) != 3 or not key.is_sealed(
            fields[2], *seals.greeting_parts(seal, fields[0], fields[1], reply.body)
        ):
            if reply.status == 401:
                raise PeerUnreachable("the peer does not accept our key")
            raise PeerUnreachable("the greeting is not sealed with our key")
        _check_status(reply)
        self._session, self._counter = fields[0], 0
        self._key = key.derive(*seals.session_parts(seal, fields[0], fields[1]))
        return reply.body

    def _answered(self, session: str, key: PeerKey, seal: str, reply: PostReply) -> bytes:
        if reply.status == 401:
            # Only a holder of the session key could seal this status; a forged one causes at most
            # one more greeting.
            if self._session == session:
                self._session = None
            raise NotGreeted
        fields = _header_fields(reply, seals.SESSION_HEADER)
        if len(fields) != 1 or not key.is_sealed(fields[0], *seals.answer_parts(seal, reply.status, reply.body)):
            raise PeerUnreachable("the answer is not sealed")
        _check_status(reply)
        return reply.body

    def _post(self, path: bytes, name: bytes, value: str, body: bytes, seconds: float) -> Deferred[PostReply]:
        head = self._heads.get(path)
        if head is None:
            try:
                head = self._heads[path] = head_of(self._url, path.decode())
            except ValueError as error:
                return fail(PeerUnreachable(str(error)))
        head = b"%b%b: %b\r\n" % (head, name, value.encode())
        return self._client.post(self._url, head, body, seconds, waits_for_others=path == _CALL)


def _check_status(reply: PostReply) -> None:
    """Raise the peer's refusal, if this is one."""
    if reply.status != 200:
        raise _KINDS.get(reply.status, PeerUnreachable)(reply.body.decode("utf-8", "replace")[:300])


def _fail(failure: Failure) -> NoReturn:
    if isinstance(failure.value, NotSent | ConnectionBroken):
        raise PeerUnreachable(str(failure.value)) from None
    failure.raiseException()


def _header_fields(reply: PostReply, header: bytes) -> list[str]:
    return reply.headers.get(header, b"").decode("ascii", "replace").split()
