"""The HTTP link to a peer."""

from __future__ import annotations

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from rqdisco.backends.gossip.core.peer_errors import (
    BadMessage,
    Misdirected,
    NotGreeted,
    PeerError,
    PeerUnreachable,
    Rejected,
)
from rqdisco.backends.gossip.transport.keyring import KeyRing
from rqdisco.backends.gossip.transport.seals import (
    KEY_HEADER,
    SESSION_HEADER,
    answer_parts,
    greeting_parts,
    hello_parts,
    request_parts,
    session_parts,
)
from rqdisco.core.ids import RandomBytes
from rqdisco.request_body import RequestBody

PATH = b"/peers/1/"
MAX_BYTES = 16 << 20
_KINDS: dict[int, type[PeerError]] = {400: BadMessage, 403: Rejected, 421: Misdirected}


class Keys:
    """The key ring in use, which may be replaced between messages."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring


class _Collector(Protocol):
    """Collects a body of at most `limit` bytes and fires with it."""

    def __init__(self, limit: int) -> None:
        self.read: Deferred[bytes] = Deferred(lambda _: self._stop())
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self._stop()
            if not self.read.called:
                self.read.errback(PeerUnreachable("the answer is too large"))
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.read.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.read.callback(b"".join(self._parts))
        else:
            self.read.errback(PeerUnreachable("the answer ended early"))

    def _stop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class HTTPLink:
    """A Link to the daemon at `url`; `agent` pools connections, `keys` is shared by all links of a
    daemon.
    """

    _log = Logger()

    def __init__(self, url: str, agent: IAgent, clock: IReactorTime, keys: Keys, random: RandomBytes) -> None:
        self._url = url.rstrip("/").encode()
        self._agent = agent
        self._clock = clock
        self._keys = keys
        self._random = random
        self._session: str | None = None
        self._key = keys.ring.signing
        self._counter = 0

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        return self._with_timeout(Deferred.fromCoroutine(self._greet(hello)), seconds)

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        return self._with_timeout(Deferred.fromCoroutine(self._request(verb, body)), seconds)

    async def _greet(self, hello: bytes) -> bytes:
        key, nonce, path = self._keys.ring.signing, self._random(16).hex(), PATH + b"hello"
        seal = key.seal(*hello_parts(path, nonce, hello))
        response, body = await self._post(path, KEY_HEADER, f"{key.name} {nonce} {seal}", hello)
        fields = _header_fields(response, KEY_HEADER)
        if len(fields) != 3 or not key.is_sealed(fields[2], *greeting_parts(seal, fields[0], fields[1], body)):
            if response.code == 401:
                raise PeerUnreachable("the peer does not accept our key")
            raise PeerUnreachable("the greeting is not sealed with our key")
        if response.code != 200:
            raise _KINDS.get(response.code, PeerUnreachable)(body.decode("utf-8", "replace")[:300])
        self._session, self._counter = fields[0], 0
        self._key = key.derive(*session_parts(seal, fields[0], fields[1]))
        return body

    async def _request(self, verb: str, content: bytes) -> bytes:
        session, key = self._session, self._key
        if session is None or self._keys.ring.find(key.name) is None:
            raise NotGreeted
        self._counter += 1
        path = PATH + verb.encode()
        seal = key.seal(*request_parts(path, session, self._counter, content))
        response, body = await self._post(path, SESSION_HEADER, f"{session} {self._counter} {seal}", content)
        if response.code == 401:
            # Only a holder of the session key could seal this status; a forged one causes at most
            # one more greeting.
            if self._session == session:
                self._session = None
            raise NotGreeted
        fields = _header_fields(response, SESSION_HEADER)
        if len(fields) != 1 or not key.is_sealed(fields[0], *answer_parts(seal, response.code, body)):
            raise PeerUnreachable("the answer is not sealed")
        if response.code != 200:
            raise _KINDS.get(response.code, PeerUnreachable)(body.decode("utf-8", "replace")[:300])
        return body

    async def _post(self, path: bytes, header: bytes, value: str, content: bytes) -> tuple[IResponse, bytes]:
        headers = Headers({header: [value.encode()]})
        try:
            response = await self._agent.request(b"POST", self._url + path, headers, RequestBody(content))
            collector = _Collector(MAX_BYTES)
            response.deliverBody(collector)
            return response, await collector.read
        except (PeerError, CancelledError):
            raise
        except ConnectingCancelledError:
            raise CancelledError from None
        except Exception as error:
            if _is_cancelled(error):
                raise CancelledError from None
            raise PeerUnreachable(_describe(error)) from None

    def _with_timeout(self, pending: Deferred[bytes], seconds: float) -> Deferred[bytes]:
        return pending.addTimeout(seconds, self._clock, _timeout_failure)


def _timeout_failure(result: bytes | Failure, seconds: float) -> bytes | Failure:
    if isinstance(result, Failure) and result.check(CancelledError, defer.TimeoutError, PeerUnreachable):
        return Failure(PeerUnreachable(f"no answer in {seconds:g} s"))
    return result


def _header_fields(response: IResponse, header: bytes) -> list[str]:
    values: list[bytes] = response.headers.getRawHeaders(header) or [b""]
    return values[0].decode("ascii", "replace").split()


def _is_cancelled(error: Exception) -> bool:
    """Report whether an error is how the agent fails a request that its caller cancelled while
    waiting.
    """
    return any(reason.check(CancelledError) for reason in getattr(error, "reasons", ()))


def _describe(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _describe(reasons[0].value)
    return str(error) or type(error).__name__
