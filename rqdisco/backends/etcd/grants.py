"""Write grants. Only the request that wrote a grant answers it; if that request has ended, the grant
is revoked (E1 to E4).

An answer "alone" or `true` leaves only while the key `v1/answers/ID` exists, which the same
transaction wrote on a lease. A removal waits for the end of that key, so no answer arrives after
another node was granted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.etcd.etcd_record import EtcdRecord, is_last_answer, with_write
from rqdisco.backends.etcd.leases import Lease, SharedLeases
from rqdisco.backends.etcd.messages import Compare, KeyValue, TxnOperation, put_op
from rqdisco.backends.etcd.record_store import PATIENCE_SECONDS, Applied, Conflict, RecordChange, RecordStore, Snapshot
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.core import records
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.coroutines import HoldableResult, run_in_background

# Seconds of the lease of `v1/answers/ID`: more than _ANSWER_SECONDS even if etcd's clock is a quarter
# too fast, since 12 / 1.25 is 9.6.
ANSWER_LEASE_SECONDS = 12
# Nothing is answered later than this after its lease was requested. HTTP ends a request after 7 s, so
# that it is answered within 8 s (P4), and the lease may be a second older than the request. Only a
# process that was stopped meanwhile comes later.
_ANSWER_SECONDS = 9.0
# Seconds between two attempts to revoke a grant.
_RETRY_SECONDS = 0.5

Outcome = Applied | Conflict


class GrantAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A request that would be granted.

    `before` is the record as the decision found it. The write `nonce` makes it `after`, which grants
    to the node `addr`, if everything in `compare` holds besides. `grants_anew` is False for the
    repeated answer to a grant that stands, which cannot be revoked. `window` are the leases of the
    retry window that the grant opens, if any.
    """

    snapshot: Snapshot
    before: EtcdRecord
    after: EtcdRecord
    nonce: str
    grants_anew: bool
    window: SharedLeases | None
    compare: tuple[Compare, ...] = ()


class GrantWriter:
    """Commits grants and answers them; `answers` are the leases of `v1/answers/ID`."""

    _log = Logger()

    def __init__(
        self,
        store: RecordStore,
        state: StoreState,
        clock: IReactorTime,
        answers: SharedLeases,
        new_nonce: Callable[[], str],
    ) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._answers = answers
        self._new_nonce = new_nonce
        # The nonces of the answers that this daemon sent lately, and when, in order.
        self._sent: set[str] = set()
        self._sent_at: deque[tuple[float, str]] = deque()
        self._under_way = 0
        # By ID, those who wait until its grants that are under way are answered or revoked.
        self._settling: dict[str, list[Deferred[None]]] = {}
        self._running: Counter[str] = Counter()
        self._is_ending = False
        self._idle: Deferred[None] | None = None

    def may_be_on_its_way(self, snapshot: Snapshot) -> bool:
        """Report whether the answer to a grant may not have left yet, at any daemon."""
        return snapshot.answer is not None and self.is_on_its_way(snapshot.answer)

    def is_on_its_way(self, answer: KeyValue) -> bool:
        """As `may_be_on_its_way`, for a key that exists."""
        return answer.value.decode(errors="replace") not in self._sent

    async def commit(self, attempt: GrantAttempt) -> Outcome:
        """Return once the grant is written; the caller answers before its next await. If the caller
        is cancelled, the grant is revoked.

        Raises StoreUnavailable.
        """
        answer: HoldableResult[Outcome] = HoldableResult()
        self._store.limit(answer)
        self._under_way += 1
        self._running[attempt.snapshot.id] += 1
        run_in_background(self._run(attempt, answer))
        return await answer

    async def settled(self, discovery_id: str) -> None:
        """Return once each grant of this daemon under an ID is answered or revoked: nobody is sent
        to a node that has just hung up. Raises Undecided if that takes too long.
        """
        if self._running[discovery_id]:
            waiting: Deferred[None] = Deferred()
            self._settling.setdefault(discovery_id, []).append(waiting)
            await waiting.addTimeout(PATIENCE_SECONDS, self._clock, _not_settled)

    async def finish(self) -> None:
        """Return once every grant is answered or revoked, or after some seconds; the daemon ends
        then.
        """
        self._is_ending = True
        if self._under_way:
            self._idle = Deferred()
            self._idle.addTimeout(PATIENCE_SECONDS, self._clock, lambda *_: None)
            await self._idle

    async def _run(self, attempt: GrantAttempt, answer: HoldableResult[Outcome]) -> None:
        try:
            await self._commit(attempt, answer)
        finally:
            self._under_way -= 1
            self._note_settled(attempt.snapshot.id)
            if self._idle is not None and not self._idle.called and not self._under_way:
                self._idle.callback(None)

    def _note_settled(self, discovery_id: str) -> None:
        self._running[discovery_id] -= 1
        if not self._running[discovery_id]:
            del self._running[discovery_id]
            for waiting in self._settling.pop(discovery_id, ()):
                if not waiting.called:
                    waiting.callback(None)

    async def _commit(self, attempt: GrantAttempt, answer: HoldableResult[Outcome]) -> None:
        try:
            lease = await self._answers.get()
            outcome = await self._write(attempt, lease)
        except StoreUnavailable as error:
            if not answer.called:
                answer.errback(error)
            return
        if isinstance(outcome, Conflict):
            if not answer.called:
                answer.callback(outcome)
            return
        if answer.held is not None:
            await answer.held
        why = self._objection(answer, lease)
        if why is None:
            self._note_sent(attempt.nonce)
            # The caller sends its answer in this very call.
            answer.callback(outcome)
            return
        if not answer.called:
            answer.errback(Undecided(why))
        await self._revoke(attempt, outcome, why)

    async def _write(self, attempt: GrantAttempt, lease: Lease) -> Outcome:
        window = None if attempt.window is None else await attempt.window.get()
        outcome = await self._store.commit(self._change(attempt, lease, window), is_patient=True)
        if isinstance(outcome, Conflict) and outcome.is_lease_lost:
            self._answers.discard(lease)
            if attempt.window is not None:
                attempt.window.discard(window)
        return outcome

    def _objection(self, answer: HoldableResult[Outcome], lease: Lease) -> str | None:
        """Return why a grant must not be answered, None if it may."""
        if answer.called:
            return "its request had ended"
        if self._answers.age(lease) >= _ANSWER_SECONDS:
            return "etcd took too long"
        # E8: the transaction may have been applied to a restored store.
        return self._state.grant_objection

    def _change(self, attempt: GrantAttempt, answer: Lease, window: Lease | None) -> RecordChange:
        keys, discovery_id, nonce = self._store.keys, attempt.snapshot.id, attempt.nonce
        more: list[TxnOperation] = [put_op(keys.answer(discovery_id), nonce.encode(), answer.id)]
        if window is not None:
            more.append(put_op(keys.window(discovery_id), attempt.after.grant_nonce.encode(), window.id))
        return RecordChange(
            snapshot=attempt.snapshot,
            after=attempt.after,
            nonce=nonce,
            was_applied=lambda record: is_last_answer(record, attempt.after),
            compare=attempt.compare,
            more=tuple(more),
        )

    def _note_sent(self, nonce: str) -> None:
        now, sent = self._clock.seconds(), self._sent_at
        while sent and now - sent[0][0] >= 2 * ANSWER_LEASE_SECONDS:
            self._sent.discard(sent.popleft()[1])
        self._sent.add(nonce)
        sent.append((now, nonce))

    async def _revoke(self, attempt: GrantAttempt, applied: Applied, why: str) -> None:
        """Revoke a grant that nobody heard of; if others have used its record since, mark it, so
        that it is repeated to its node at any time (E3).
        """
        current = Snapshot(id=attempt.snapshot.id, record=applied.record, revision=applied.revision)
        while (undoing := self._revocation(attempt, current)) is not None:
            try:
                outcome = await self._store.commit(undoing, is_patient=True)
            except StoreUnavailable as error:
                self._log.warn("grant not revoked yet: {reason}", reason=error.reason, discovery_id=current.id)
                if self._is_ending:
                    return
                await self._pause()
                continue
            if isinstance(outcome, Applied):
                event = "grant kept for its node, {why}" if undoing.after.unanswered else "grant revoked, {why}"
                self._log.info(event, why=why, discovery_id=current.id)
                return
            if outcome.current.revision == current.revision:
                # Not the record has changed, but the state of the store.
                await self._pause()
            current = outcome.current

    def _revocation(self, attempt: GrantAttempt, current: Snapshot) -> RecordChange | None:
        """Return the change that takes a grant back, None if there is none to take back."""
        record, nonce = current.record, self._new_nonce()
        if record is None or not is_last_answer(record, attempt.after):
            return None
        if attempt.grants_anew and record.grant_nonce == attempt.nonce == record.last_nonce:
            restored = records.with_grant_revoked(attempt.before)
            assert isinstance(restored, EtcdRecord)
            after = with_write(replace(restored, epoch=record.epoch), nonce, version=record.version + 1)
            more: tuple[TxnOperation, ...] = self._store.without_window(current.id)
        elif (attempt.grants_anew or attempt.before.unanswered) and not record.unanswered:
            after = replace(with_write(record, nonce, version=record.version + 1), unanswered=True)
            more = ()
        else:
            return None
        return RecordChange(
            snapshot=current, after=after, nonce=nonce, was_applied=lambda found: found.last_nonce == nonce, more=more
        )

    def _pause(self) -> Deferred[None]:
        paused: Deferred[None] = Deferred()
        self._clock.callLater(_RETRY_SECONDS, paused.callback, None)
        return paused


def _not_settled(result: object, _: float) -> object:
    if isinstance(result, Failure) and result.check(CancelledError):
        return Failure(Undecided("a grant under this ID is being revoked, try again"))
    return result
