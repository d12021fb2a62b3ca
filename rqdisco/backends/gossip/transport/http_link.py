"""The way to a peer by HTTP."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from rqdisco.backends.gossip.transport.keyring import KeyRing
from rqdisco.backends.gossip.transport.links import (
    BadMessage,
    Misdirected,
    NotGreeted,
    PeerError,
    PeerUnreachable,
    Rejected,
)
from rqdisco.backends.gossip.transport.seals import (
    KEY_HEADER,
    SESSION_HEADER,
    answer_parts,
    ask_parts,
    greeting_parts,
    hello_parts,
    session_parts,
)
from rqdisco.core.ids import RandomBytes

PATH = b"/peers/1/"
MOST_BYTES = 16 << 20
_KINDS: dict[int, type[PeerError]] = {400: BadMessage, 403: Rejected, 421: Misdirected}


class Keys:
    """The ring in use; it may be another one from one message to the next."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring


@implementer(IBodyProducer)
class _RequestBody:
    def __init__(self, content: bytes) -> None:
        self.length = len(content)
        self._content = content

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _Collector(Protocol):
    """Reads a body of at most so many bytes; fires with it."""

    def __init__(self, most: int) -> None:
        self.read: Deferred[bytes] = Deferred(lambda _: self._stop())
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            self._stop()
            if not self.read.called:
                self.read.errback(PeerUnreachable("its answer is too large"))
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.read.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.read.callback(b"".join(self._parts))
        else:
            self.read.errback(PeerUnreachable("its answer ended early"))

    def _stop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


class HTTPLink:
    """A Link to the daemon at `url`; `agent` keeps the connections, `keys` is shared by all links
    of a daemon.
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
        return self._in_time(Deferred.fromCoroutine(self._greet(hello)), seconds)

    def ask(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        return self._in_time(Deferred.fromCoroutine(self._ask(verb, body)), seconds)

    async def _greet(self, hello: bytes) -> bytes:
        key, nonce, path = self._keys.ring.signing, self._random(16).hex(), PATH + b"hello"
        seal = key.seal(*hello_parts(path, nonce, hello))
        response, body = await self._send(path, KEY_HEADER, f"{key.name} {nonce} {seal}", hello)
        words = _words(response, KEY_HEADER)
        if len(words) != 3 or not key.is_sealed(words[2], *greeting_parts(seal, words[0], words[1], body)):
            if response.code == 401:
                raise PeerUnreachable("it does not accept our key")
            raise PeerUnreachable("its greeting is not sealed with our key")
        if response.code != 200:
            raise _KINDS.get(response.code, PeerUnreachable)(body.decode("utf-8", "replace")[:300])
        self._session, self._counter = words[0], 0
        self._key = key.derive(*session_parts(seal, words[0], words[1]))
        return body

    async def _ask(self, verb: str, content: bytes) -> bytes:
        session, key = self._session, self._key
        if session is None or self._keys.ring.find(key.name) is None:
            raise NotGreeted
        self._counter += 1
        path = PATH + verb.encode()
        seal = key.seal(*ask_parts(path, session, self._counter, content))
        response, body = await self._send(path, SESSION_HEADER, f"{session} {self._counter} {seal}", content)
        if response.code == 401:
            # Nobody can seal that, who does not know the session; the worst it can do is a greeting
            # more.
            if self._session == session:
                self._session = None
            raise NotGreeted
        words = _words(response, SESSION_HEADER)
        if len(words) != 1 or not key.is_sealed(words[0], *answer_parts(seal, response.code, body)):
            raise PeerUnreachable("its answer is not sealed")
        if response.code != 200:
            raise _KINDS.get(response.code, PeerUnreachable)(body.decode("utf-8", "replace")[:300])
        return body

    async def _send(self, path: bytes, header: bytes, value: str, content: bytes) -> tuple[IResponse, bytes]:
        headers = Headers({header: [value.encode()]})
        try:
            response = await self._agent.request(b"POST", self._url + path, headers, _RequestBody(content))
            collector = _Collector(MOST_BYTES)
            response.deliverBody(collector)
            return response, await collector.read
        except (PeerError, CancelledError):
            raise
        except ConnectingCancelledError:
            raise CancelledError from None
        except Exception as error:
            if _is_given_up(error):
                raise CancelledError from None
            raise PeerUnreachable(_in_words(error)) from None

    def _in_time(self, asking: Deferred[bytes], seconds: float) -> Deferred[bytes]:
        return asking.addTimeout(seconds, self._clock, _too_late)


def _too_late(result: Any, seconds: float) -> Any:
    if isinstance(result, Failure) and result.check(CancelledError, defer.TimeoutError, PeerUnreachable):
        return Failure(PeerUnreachable(f"no answer in {seconds:g} s"))
    return result


def _words(response: IResponse, header: bytes) -> list[str]:
    values: list[bytes] = response.headers.getRawHeaders(header) or [b""]
    return values[0].decode("ascii", "replace").split()


def _is_given_up(error: Exception) -> bool:
    """Whether it is what becomes of a request that its sender cancels while it waits for the
    answer.
    """
    return any(reason.check(CancelledError) for reason in getattr(error, "reasons", ()))


def _in_words(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _in_words(reasons[0].value)
    return str(error) or type(error).__name__
