"""The client of etcd's JSON gateway: endpoints, repetitions, tokens, and checks of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from rqdisco.backends.etcd.attempts import Attempts
from rqdisco.backends.etcd.auth import Credentials, Tokens
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.endpoints import Endpoints
from rqdisco.backends.etcd.failures import (
    AuthFailed,
    EtcdFailure,
    LeaseNotFound,
    NoSpace,
    NotApplied,
    OutcomeUnknown,
    TooLarge,
)
from rqdisco.backends.etcd.messages import (
    Alarms,
    LeaseGrant,
    LeaseGrantResponse,
    LeaseQuery,
    LeaseTimeToLive,
    Range,
    RangeResponse,
    Status,
    Txn,
    TxnResponse,
    WatchCreate,
    WatchResponse,
    encode,
)
from rqdisco.backends.etcd.refusals import GatewayRefusal, RefusalKind
from rqdisco.backends.etcd.request_kinds import (
    ALARMS,
    GRANT,
    RANGE,
    READ,
    REVOKE,
    STATUS,
    TIME_TO_LIVE,
    TXN,
    A,
    RequestKind,
    read_reply,
)
from rqdisco.backends.etcd.response_shape import fits
from rqdisco.backends.etcd.revisions import RevisionGuard
from rqdisco.backends.etcd.transport.interfaces import PostTransport, StreamTransport
from rqdisco.backends.etcd.watch_connection import Watch
from rqdisco.http_client.interfaces import AnswerTooLarge, ConnectionBroken, NotSent, PostReply

SECONDS = 5.0
# With less time left no further copy is sent: its answer would come too late.
_LEAST_SECONDS = 0.1
_OUTCOMES: dict[type[EtcdFailure], str] = {
    NotApplied: "not_applied",
    LeaseNotFound: "lease_not_found",
    OutcomeUnknown: "unknown",
    NoSpace: "no_space",
    AuthFailed: "auth_failed",
    TooLarge: "too_large",
}


class ClientConfig(msgspec.Struct, frozen=True):
    """The members of etcd and the user to be there. `credentials` is called for each new token.

    An endpoint is a URL such as `https://e1:2379`; an attempt there takes at most
    `attempt_seconds`.
    """

    endpoints: tuple[str, ...]
    credentials: Callable[[], Credentials] | None = None
    attempt_seconds: float = 1.0


class EtcdClient:
    """Sends requests to one endpoint as long as it answers, then to the next.

    Every method raises a kind of EtcdFailure, whose text is for operators. Those of reads and
    leases are NotApplied. Cancelling a request cancels what is in flight.
    """

    def __init__(
        self,
        config: ClientConfig,
        transport: PostTransport,
        streams: StreamTransport,
        clock: IReactorTime,
        guard: RevisionGuard,
        counts: EtcdCounts,
    ) -> None:
        self._attempt_seconds = config.attempt_seconds
        self._transport = transport
        self._streams = streams
        self._clock = clock
        self._guard = guard
        self._counts = counts
        self._endpoints = Endpoints(config.endpoints, counts)
        self._tokens = Tokens(config.credentials, self._post_without_token, clock, counts)

    async def range(self, request: Range, seconds: float = SECONDS) -> RangeResponse:
        """Read keys, linearizably."""
        return await self._count(RANGE, encode(request), seconds)

    async def read(self, request: Txn, seconds: float = SECONDS) -> TxnResponse:
        """Carry out a transaction that only reads, linearizably."""
        return await self._count(READ, encode(request), seconds, lambda answer: fits(request, answer))

    async def txn(self, request: Txn, seconds: float = SECONDS) -> TxnResponse:
        """Carry out a transaction; identical copies are sent until the outcome is known (E2).

        Raises LeaseNotFound if no copy was or will be applied for want of a lease, NotApplied if
        every copy was certainly refused, else OutcomeUnknown. The answer may be to a later copy
        than the one applied: then the comparison failed.
        """
        return await self._count(TXN, encode(request), seconds, lambda answer: fits(request, answer))

    async def grant_lease(self, ttl: int, seconds: float = SECONDS) -> LeaseGrantResponse:
        """Create a lease of `ttl` seconds."""
        return await self._count(GRANT, encode(LeaseGrant(ttl=ttl)), seconds, lambda answer: answer.id != 0)

    async def revoke_lease(self, lease: int, seconds: float = SECONDS) -> None:
        """End a lease, which deletes its keys; one that has ended is no error."""
        try:
            await self._count(REVOKE, encode(LeaseQuery(id=lease)), seconds)
        except LeaseNotFound:
            return

    async def time_to_live(self, lease: int, seconds: float = SECONDS) -> LeaseTimeToLive:
        """Return the time to live of a lease, -1 if there is none."""
        return await self._count(TIME_TO_LIVE, encode(LeaseQuery(id=lease)), seconds)

    async def alarms(self, seconds: float = SECONDS) -> Alarms:
        """Return the alarms of the cluster."""
        return await self._count(ALARMS, b'{"action":"GET"}', seconds)

    async def status(self, endpoint: str) -> Status:
        """Return the state of the member at an endpoint, which is asked once."""
        return await self._ask_once(STATUS, endpoint, b"{}")

    async def range_at(self, endpoint: str, request: Range) -> RangeResponse:
        """Read keys at an endpoint, linearizably; it is asked once. It may be of another cluster."""
        return await self._ask_once(RANGE, endpoint, encode(request))

    async def _ask_once(self, kind: RequestKind[A], endpoint: str, body: bytes) -> A:
        try:
            reply = await self._transport.post(endpoint, kind.path, body, self._tokens.token, self._attempt_seconds)
        except (NotSent, ConnectionBroken) as error:
            raise NotApplied(str(error)) from None
        answer = read_reply(kind, reply, None, self._tokens.token)
        if isinstance(answer, GatewayRefusal):
            raise NotApplied(answer.reason)
        return answer

    def avoid(self, endpoint: str) -> None:
        """Send the next requests and watches elsewhere, if this endpoint is the one in use."""
        self._endpoints.failed(endpoint)

    def watch(self, creates: Sequence[WatchCreate], received: Callable[[WatchResponse], None]) -> Watch:
        """Watch keys and ranges over one connection, which ends for good when it fails."""
        return Watch(self._streams, self._endpoints, self._tokens, creates, received)

    def _post_without_token(self, path: str, body: bytes) -> Deferred[PostReply]:
        return self._transport.post(self._endpoints.current, path, body, None, self._attempt_seconds)

    async def _count(
        self, kind: RequestKind[A], body: bytes, seconds: float, fits: Callable[[A], bool] | None = None
    ) -> A:
        """Deliver a request, and count it by its outcome."""
        began = self._clock.seconds()
        outcome = "cancelled"
        try:
            answer = await self._deliver(kind, body, began + seconds, fits)
            outcome = "ok"
            return answer
        except EtcdFailure as error:
            outcome = _OUTCOMES[type(error)]
            raise
        finally:
            self._counts.ended(kind.name, outcome, self._clock.seconds() - began)

    async def _deliver(self, kind: RequestKind[A], body: bytes, deadline: float, fits: Callable[[A], bool] | None) -> A:
        """Send copies of a request until one is answered as asked, or no other is of use."""
        attempts: Attempts | None = None
        while True:
            endpoint, token = self._endpoints.current, None
            try:
                if self._tokens.is_due:
                    await self._renew(deadline)
                token = self._tokens.token
                at_send = self._guard.seen
                seconds = min(self._attempt_seconds, deadline - self._clock.seconds())
                reply = await self._transport.post(endpoint, kind.path, body, token, seconds)
                answer = read_reply(kind, reply, fits, token)
                if not isinstance(answer, GatewayRefusal):
                    if kind.is_checked:
                        self._guard.check(answer.header, at_send)
                    return answer
                failed: GatewayRefusal | Exception = answer
            except AnswerTooLarge as error:
                # Perhaps it is not etcd that answers so. If it is, every copy is, but smaller
                # requests are not.
                self._endpoints.failed(endpoint)
                if kind in (READ, TXN):
                    raise TooLarge(str(error)) from None
                failed = error
            except (NotSent, ConnectionBroken, AuthFailed) as error:
                failed = error
            attempts = attempts or Attempts(len(self._endpoints), is_read=kind.is_read)
            self._record(attempts, endpoint, token, failed)
            await self._pause(attempts, deadline)

    def _record(self, attempts: Attempts, endpoint: str, token: str | None, failed: GatewayRefusal | Exception) -> None:
        """Record what became of a copy. Raises the failure if another copy is of no use."""
        if isinstance(failed, GatewayRefusal):
            if failed.fate is RefusalKind.UNKNOWN:
                self._endpoints.failed(endpoint)
            elif _may_need_token(failed, token):
                is_renewable = self._tokens.refuse(token)
                failed = GatewayRefusal(RefusalKind.NO_TOKEN if is_renewable else RefusalKind.FORBIDDEN, failed.reason)
            attempts.was_refused(failed)
        elif isinstance(failed, AuthFailed):
            attempts.was_refused(GatewayRefusal(RefusalKind.FORBIDDEN, str(failed)))
        else:
            self._endpoints.failed(endpoint)
            attempts.was_lost(endpoint, str(failed), is_sent=not isinstance(failed, NotSent))

    async def _pause(self, attempts: Attempts, deadline: float) -> None:
        """Wait before the next attempt. Raises the failure if no time is left for one."""
        seconds = attempts.pause()
        if self._clock.seconds() + seconds + _LEAST_SECONDS > deadline:
            raise attempts.failure()
        if seconds:
            await deferLater(self._clock, seconds)
        if attempts.is_in_doubt:
            self._counts.resends += 1

    async def _renew(self, deadline: float) -> None:
        """Fetch a token. Raises AuthFailed or NotSent."""
        try:
            await self._tokens.renew().addTimeout(max(0.0, deadline - self._clock.seconds()), self._clock)
        except defer.TimeoutError:
            raise NotSent("no token in time") from None
        except ConnectionBroken as error:
            # It is not the request that may have been received.
            raise NotSent(str(error)) from None


def _may_need_token(refusal: GatewayRefusal, token: str | None) -> bool:
    """Report whether another token may help. Over https etcd takes a request without one for that of
    a user who is named like its own certificate, and may deny that user the keys.
    """
    return refusal.fate is RefusalKind.NO_TOKEN or (refusal.fate is RefusalKind.FORBIDDEN and token is None)
