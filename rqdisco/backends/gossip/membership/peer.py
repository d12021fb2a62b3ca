"""One other daemon as this one sees it: the way there, whether it answers, and what it was last
heard to hold.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.pace import Pace
from rqdisco.backends.gossip.transport.links import (
    BadMessage,
    Link,
    Misdirected,
    NotGreeted,
    PeerError,
    PeerUnreachable,
    Rejected,
)
from rqdisco.backends.gossip.transport.messages import PROTOCOL, Digest, Hello, decode_message, encode_message
from rqdisco.core.codec import Malformed
from rqdisco.core.records import Moment

T = TypeVar("T")

GREET_SECONDS = 2.0
_MOST_RESTS = 4


class Peer:
    """A daemon at a URL. Whose it is shows once it was greeted: `met` is then told, and may raise
    PeerError.

    `is_up` says whether the last message was answered, `contact` when that was or when it last
    spoke by itself, `acked` up to which version it durably has this daemon's own records,
    `newest_of_ours` the newest of those, `held` all of its cursors, `expired` all of its marks;
    `is_caught_up` whether all that it had was taken over once, `differs` how its list of members
    differs from ours, in words, and `differed` in how many exchanges on end it did; `stopped` is
    why it decides nothing, if it said so.
    """

    def __init__(
        self,
        url: str,
        link: Link,
        clock: IReactorTime,
        hello: Callable[[], Hello],
        met: Callable[[Peer, Hello], None],
        incarnation: str | None = None,
    ) -> None:
        self.url = url
        self.incarnation = incarnation
        self.is_up = False
        self.contact: float | None = None
        self.acked = self.newest_of_ours = 0
        self.held: dict[str, int] = {}
        self.expired: dict[str, int] = {}
        self.issued = 0
        self.agreed = ""
        self.differs: tuple[str, ...] = ()
        self.differed = 0
        self.is_caught_up = False
        self.told = ""
        self.offset_ms: int | None = None
        self.why: str | None = None
        self.stopped: str | None = None
        self.digests_received = 0
        self.pace = Pace(clock)
        self._asked_by_it: float | None = None
        self._rests = 0
        self._link = link
        self._clock = clock
        self._hello = hello
        self._met = met
        self._greeting: list[Deferred[None]] | None = None
        self.was_attempted = False
        self._is_other = False
        self._told_time: tuple[Moment, float] | None = None
        self._log = Logger()

    async def ask(self, verb: str, message: msgspec.Struct, kind: type[T], seconds: float) -> T:
        """Send a message, fire with its answer; it is greeted before if need be. Raises PeerError's
        kinds.
        """
        answer = _decoded(await self._send(verb, encode_message(message), seconds), kind)
        if isinstance(answer, Digest) and answer.at is not None:
            self._told_time = answer.at, self._clock.seconds()
        return answer

    def time_there_in(self, seconds: float) -> Moment | None:
        """What this peer's own time will at least be after so many seconds; None if it never told
        it.
        """
        if self._told_time is None:
            return None
        told, heard = self._told_time
        return Moment(told.boot, told.ms + int((self._clock.seconds() - heard + seconds) * 1000))

    def hear(self) -> None:
        """It spoke, be it by itself."""
        self.contact = self._clock.seconds()

    def receive_digest(self) -> None:
        """It told its digest by itself, and was told the one of this daemon."""
        self.digests_received += 1
        self._asked_by_it = self._clock.seconds()

    def push_soon(self) -> None:
        """Exchange digests soon: it lacks what it can only ask for itself."""
        self._rests = _MOST_RESTS
        self.pace.hurry()

    def may_rest(self, seconds: float) -> bool:
        """Whether digests were exchanged within so many seconds by its doing, so that there is no
        need to do so again; now and then this daemon asks all the same, to see that it would be
        answered.
        """
        asked = self._asked_by_it
        if asked is None or not self.is_up or self._clock.seconds() - asked > seconds or self._rests >= _MOST_RESTS:
            self._rests = 0
            return False
        self._rests += 1
        return True

    async def greet(self) -> None:
        """Begin a session; two calls at once begin one. Raises PeerError's kinds."""
        if self._greeting is not None:
            waiter: Deferred[None] = Deferred()
            self._greeting.append(waiter)
            return await waiter
        self._greeting = []
        try:
            await self._greet()
        except Exception as error:
            self._greeted(error if isinstance(error, PeerError) else PeerUnreachable("given up"))
            raise
        self._greeted(None)
        return None

    def _greeted(self, error: PeerError | None) -> None:
        """Tell those who wait for the same greeting."""
        waiting, self._greeting = self._greeting or [], None
        for each in waiting:
            if each.called:
                continue
            if error is None:
                each.callback(None)
            else:
                each.errback(error)

    async def _greet(self) -> None:
        # What is said in a session of another incarnation says nothing of this one (R7).
        self._is_other = True
        try:
            hello = _decoded(await self._link.greet(encode_message(self._hello()), GREET_SECONDS), Hello)
            check_protocol(hello)
            await self._report_duplicate(hello)
            self._met(self, hello)
            if self.incarnation not in (None, hello.incarnation):
                raise Misdirected(f"another incarnation answers there: {hello.incarnation}")
        except PeerError as error:
            self._is_unreachable(error)
            raise
        self._is_other = False
        self._answers()

    async def _report_duplicate(self, hello: Hello) -> None:
        """Let a daemon that has this one's incarnation know that both are alive, which a hello
        alone does not prove.
        """
        own = self._hello()
        if hello.incarnation == own.incarnation and hello.boot != own.boot:
            with suppress(PeerError):
                await self._link.ask("digest", b"{}", GREET_SECONDS)

    async def _send(self, verb: str, body: bytes, seconds: float) -> bytes:
        if self._is_other:
            await self.greet()
        try:
            return await self._watched(self._link.ask(verb, body, seconds))
        except NotGreeted:
            # It started anew, or we did, or it forgot: what was sent was not looked at.
            await self.greet()
            return await self._watched(self._link.ask(verb, body, seconds))

    async def _watched(self, asking: Deferred[bytes]) -> bytes:
        try:
            answer = await asking
        except (PeerUnreachable, Rejected) as error:
            self._is_unreachable(error)
            raise
        except NotGreeted:
            raise
        except PeerError as error:
            self.why = _in_words(error)
            raise
        self._answers()
        return answer

    def _answers(self) -> None:
        if not self.is_up:
            self._log.info("peer answers", url=self.url, incarnation=self.incarnation)
        self.is_up, self.why, self.was_attempted = True, None, True
        self.hear()

    def _is_unreachable(self, error: PeerError) -> None:
        self.why = _in_words(error)
        if self.is_up or not self.was_attempted:
            self._log.warn("peer does not answer", url=self.url, why=self.why)
        self.is_up, self.was_attempted = False, True


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return decode_message(body, kind)
    except Malformed as error:
        raise BadMessage(str(error)) from None


def _in_words(error: PeerError) -> str:
    return str(error) or type(error).__name__


def check_protocol(hello: Hello) -> None:
    """Raise Rejected where there is no protocol that both speak."""
    if hello.protocol[0] > PROTOCOL[1] or hello.protocol[1] < PROTOCOL[0]:
        raise Rejected(f"speaks protocol {hello.protocol[0]} to {hello.protocol[1]}, not one of {PROTOCOL}")
