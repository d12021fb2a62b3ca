"""One peer as this daemon sees it: requests to it in a session, whether it answers, and the last
state that it reported. Open it for greetings (hello messages) and skipped exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.interval_timer import IntervalTimer
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
# Exchanges in a row that a peer's own requests may replace.
_MAX_SKIPPED = 4


class Peer:
    """A daemon at a URL. `hello` returns this daemon's own hello. A greeting reveals the peer's
    identity: `on_hello` is called with its hello, and may raise PeerError.
    """

    def __init__(
        self,
        url: str,
        link: Link,
        clock: IReactorTime,
        hello: Callable[[], Hello],
        on_hello: Callable[[Peer, Hello], None],
        incarnation: str | None = None,
    ) -> None:
        self.url = url
        self.incarnation = incarnation
        # Whether it answered the last request, and whether one was attempted.
        self.is_up = self.was_attempted = False
        self.last_error: str | None = None
        # The time of the last answer or message from it.
        self.contacted_at: float | None = None
        # The version up to which it durably holds this daemon's records, and the newest it holds.
        self.acked = self.newest_of_ours = 0
        # The newest version of its own records that it has issued.
        self.newest_issued = 0
        # All its cursors and expiry watermarks, by owner.
        self.held: dict[str, int] = {}
        self.expired: dict[str, int] = {}
        # Whether all it had was pulled once.
        self.is_caught_up = False
        # Its member list: the fingerprint, how it differs from ours, and for how many exchanges in
        # a row.
        self.fingerprint = ""
        self.differences: tuple[str, ...] = ()
        self.differing_exchanges = 0
        self.clock_offset_ms: int | None = None
        # Why it decides nothing, if it reported so.
        self.stopped: str | None = None
        # Digests that it sent; the answers to ours do not count.
        self.digests_received = 0
        # Paces the exchange loop; triggered to exchange early.
        self.timer = IntervalTimer(clock)
        self._digest_received_at: float | None = None
        self._skipped = 0
        self._link = link
        self._clock = clock
        self._hello = hello
        self._on_hello = on_hello
        # Callers that wait for a greeting in progress; None if there is none.
        self._greeting: list[Deferred[None]] | None = None
        self._must_greet = False
        self._remote_clock: tuple[Moment, float] | None = None
        self._log = Logger()

    async def request(self, verb: str, message: msgspec.Struct, kind: type[T], seconds: float) -> T:
        """Send a message and return its answer, greeting first if needed. Raises PeerError's
        kinds.
        """
        answer = _decode_answer(await self._request_in_session(verb, encode_message(message), seconds), kind)
        if isinstance(answer, Digest) and answer.at is not None:
            self._remote_clock = answer.at, self._clock.seconds()
        return answer

    def remote_time_in(self, seconds: float) -> Moment | None:
        """Return a lower bound of the peer's own clock in `seconds`, None if it never sent its
        time.
        """
        if self._remote_clock is None:
            return None
        remote, received = self._remote_clock
        return Moment(remote.boot, remote.ms + int((self._clock.seconds() - received + seconds) * 1000))

    def mark_contact(self) -> None:
        """Record that the peer answered or sent a message."""
        self.contacted_at = self._clock.seconds()

    def mark_digest_received(self) -> None:
        """Record that the peer sent its digest and received ours."""
        self.digests_received += 1
        self._digest_received_at = self._clock.seconds()

    def exchange_soon(self) -> None:
        """Exchange digests soon: the peer lacks records that only it can pull."""
        self._skipped = _MAX_SKIPPED
        self.timer.trigger()

    def may_skip_exchange(self, seconds: float) -> bool:
        """Report whether the peer's own request exchanged digests within `seconds`. Return
        False after a few True in a row, to test that the peer still answers.
        """
        received = self._digest_received_at
        if (
            received is None
            or not self.is_up
            or self._clock.seconds() - received > seconds
            or self._skipped >= _MAX_SKIPPED
        ):
            self._skipped = 0
            return False
        self._skipped += 1
        return True

    async def greet(self) -> None:
        """Begin a session; concurrent calls share one. Raises PeerError's kinds."""
        if self._greeting is not None:
            waiter: Deferred[None] = Deferred()
            self._greeting.append(waiter)
            return await waiter
        self._greeting = []
        try:
            await self._exchange_hellos()
        except Exception as error:
            self._finish_greeting(error if isinstance(error, PeerError) else PeerUnreachable("cancelled"))
            raise
        self._finish_greeting(None)
        return None

    def _finish_greeting(self, error: PeerError | None) -> None:
        """Wake the callers that wait for the same greeting."""
        waiting, self._greeting = self._greeting or [], None
        for each in waiting:
            if each.called:
                continue
            if error is None:
                each.callback(None)
            else:
                each.errback(error)

    async def _exchange_hellos(self) -> None:
        # A session with another incarnation proves nothing about this one (R7).
        self._must_greet = True
        try:
            hello = _decode_answer(await self._link.greet(encode_message(self._hello()), GREET_SECONDS), Hello)
            check_protocol(hello)
            await self._report_duplicate(hello)
            self._on_hello(self, hello)
            if self.incarnation not in (None, hello.incarnation):
                raise Misdirected(f"another incarnation answers there: {hello.incarnation}")
        except PeerError as error:
            self._mark_down(error)
            raise
        self._must_greet = False
        self._mark_up()

    async def _report_duplicate(self, hello: Hello) -> None:
        """Prove to a daemon with this one's incarnation that both are alive, which a hello alone
        does not.
        """
        own = self._hello()
        if hello.incarnation == own.incarnation and hello.run_id != own.run_id:
            with suppress(PeerError):
                await self._link.request("digest", b"{}", GREET_SECONDS)

    async def _request_in_session(self, verb: str, body: bytes, seconds: float) -> bytes:
        if self._must_greet:
            await self.greet()
        try:
            return await self._await_answer(self._link.request(verb, body, seconds))
        except NotGreeted:
            # One of both restarted, or the session expired; the message was not processed.
            await self.greet()
            return await self._await_answer(self._link.request(verb, body, seconds))

    async def _await_answer(self, pending: Deferred[bytes]) -> bytes:
        try:
            answer = await pending
        except (PeerUnreachable, Rejected) as error:
            self._mark_down(error)
            raise
        except NotGreeted:
            raise
        except PeerError as error:
            self.last_error = _error_text(error)
            raise
        self._mark_up()
        return answer

    def _mark_up(self) -> None:
        if not self.is_up:
            self._log.info("peer answers", url=self.url, incarnation=self.incarnation)
        self.is_up, self.last_error, self.was_attempted = True, None, True
        self.mark_contact()

    def _mark_down(self, error: PeerError) -> None:
        self.last_error = _error_text(error)
        if self.is_up or not self.was_attempted:
            self._log.warn("peer does not answer", url=self.url, why=self.last_error)
        self.is_up, self.was_attempted = False, True


def _decode_answer(body: bytes, kind: type[T]) -> T:
    try:
        return decode_message(body, kind)
    except Malformed as error:
        raise BadMessage(str(error)) from None


def _error_text(error: PeerError) -> str:
    return str(error) or type(error).__name__


def check_protocol(hello: Hello) -> None:
    """Raise Rejected if there is no common protocol version."""
    if hello.protocol[0] > PROTOCOL[1] or hello.protocol[1] < PROTOCOL[0]:
        raise Rejected(f"speaks protocol {hello.protocol[0]} to {hello.protocol[1]}, not one of {PROTOCOL}")
