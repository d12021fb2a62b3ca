"""Watch etcd for operators: whether it answers, its members, its alarms and its number of IDs.

What it finds decides nothing about a record, but nothing is changed while etcd has an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import EtcdFailure
from rqdisco.backends.etcd.messages import KeyValue, Range, RangeResponse, Status, prefix_end
from rqdisco.backends.etcd.refusals import DATA_CORRUPT, DATABASE_FULL
from rqdisco.backends.etcd.store_state import WENT_BACK
from rqdisco.backends.etcd.versions import objection
from rqdisco.core.errors import EtcdFull, EtcdUnavailable, StoreUnavailable
from rqdisco.coroutines import gather

STATE_SECONDS = 1.0
MEMBERS_SECONDS = 5.0
# etcd 3.4 lists all keys to count them. Up to _COUNTED_IDS are counted once a minute, more of them
# less often in proportion: a million every 10 minutes.
COUNT_SECONDS = 60.0
_COUNTED_IDS = 100_000
# An election takes a second or two, and is not reported.
_PATIENCE_SECONDS = 3.0
_NOT_CHECKED = "etcd has not been checked yet"

# By the kind of a problem, the events when it begins and ends. What went back is logged where it is
# noticed.
_LOGGED = {
    "failure": ("etcd cannot be used", "etcd can be used again"),
    "full": ("etcd is full", "etcd can be written again"),
    "corrupt": ("etcd is corrupt", "etcd is not corrupt any more"),
    "foreign": ("etcd's members are not of one cluster", "etcd's members are of one cluster again"),
    "frozen": ("the store in etcd is frozen", "the store in etcd can be changed again"),
}


class MonitoredClient(Protocol):
    """The part of `EtcdClient` that the monitor needs."""

    async def range(self, request: Range, seconds: float = ...) -> RangeResponse: ...

    async def range_at(self, endpoint: str, request: Range) -> RangeResponse: ...

    async def status(self, endpoint: str) -> Status: ...


class MonitoredState(Protocol):
    """The part of `StoreState` that the monitor needs."""

    @property
    def frozen(self) -> str | None: ...

    @property
    def grant_objection(self) -> str | None: ...

    def is_elsewhere(self, read: RangeResponse) -> bool: ...

    def learn(self, found: KeyValue | None) -> None: ...


class MonitoredKeys(msgspec.Struct, frozen=True):
    """The key of the store's state, and the prefix of the keys of records."""

    meta: bytes
    ids: bytes


class MemberState(msgspec.Struct, frozen=True):
    """A member at its last check: its status, or why it did not answer. One that `is_foreign` is of
    another cluster.
    """

    endpoint: str
    status: Status | None = None
    problem: str | None = None
    is_foreign: bool = False

    def note(self) -> str | None:
        """Return what an operator should know, None if all is well."""
        if self.status is None:
            return f"the etcd member at {self.endpoint} does not answer: {self.problem}"
        if (why := objection(self.status.version)) is not None:
            return f"the etcd member at {self.endpoint}: {why}"
        return None if self.status.leader else f"the etcd member at {self.endpoint} knows no leader"

    def view(self) -> Mapping[str, object]:
        """Return the member as the status page shows it."""
        if self.status is None:
            return {"endpoint": self.endpoint, "problem": self.problem}
        return {
            "endpoint": self.endpoint,
            "version": self.status.version,
            "leads": self.status.leader == self.status.header.member_id,
            "size": self.status.db_size,
            "used": self.status.db_size_in_use,
        }


class EtcdMonitor(Service):
    """Asks etcd about once a second, from `begin` on. `jitter` returns numbers around 1.

    `ids` is the number of IDs when they were last counted, None before. It implements
    `telemetry.health.BackendHealth`.
    """

    _log = Logger()

    def __init__(
        self,
        client: MonitoredClient,
        endpoints: Sequence[str],
        keys: MonitoredKeys,
        state: MonitoredState,
        counts: EtcdCounts,
        clock: IReactorTime,
        jitter: Callable[[], float],
    ) -> None:
        self._client = client
        self._keys = keys
        self._state = state
        self._counts = counts
        self._clock = clock
        self._jitter = jitter
        self.members: Sequence[MemberState] = [MemberState(each, None, "not asked yet") for each in endpoints]
        self.ids: int | None = None
        # Why the last read failed, or why there was none yet.
        self.failure: str | None = _NOT_CHECKED
        self.alarms: frozenset[str] = frozenset()
        self._has_begun = False
        self._next_members = self._next_count = 0.0
        self._refused_writes = 0
        self._logged: frozenset[str] = frozenset()
        self._timer: IDelayedCall | None = None
        self._asking: Deferred[None] | None = None

    def waiting(self, reason: str) -> None:
        """Report why the checks at the start have not passed yet."""
        self.failure = reason

    def begin(self) -> None:
        """Start to ask, once the checks at the start have passed."""
        self._has_begun, self.failure = True, None
        if self.running and self._timer is None and self._asking is None:
            self._ask()

    def startService(self) -> None:
        super().startService()
        if self._has_begun:
            self._ask()

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.cancel()

    def against_lists(self) -> Sequence[str]:
        return [] if self.failure is None else [self.failure]

    def against_grants(self) -> Sequence[str]:
        return list(self._problems().values())

    def other_warnings(self) -> Sequence[str]:
        return [note for member in self.members if self._next_members and (note := member.note()) is not None]

    @property
    def views(self) -> Sequence[Mapping[str, object]]:
        """The members, as the status page shows them."""
        return [each.view() for each in self.members]

    @property
    def is_full(self) -> bool:
        """Report whether etcd refuses writes for lack of space."""
        return "NOSPACE" in self.alarms

    @property
    def write_objection(self) -> EtcdUnavailable | None:
        """The error of all writes while etcd has an alarm, or a member of another cluster; None if not."""
        if self.is_full:
            return EtcdFull(DATABASE_FULL)
        if (foreign := self._foreign) is not None:
            return EtcdUnavailable(foreign)
        return EtcdUnavailable(DATA_CORRUPT) if "CORRUPT" in self.alarms else None

    @property
    def _foreign(self) -> str | None:
        """The reason why nothing may be changed while a member is of another cluster, which other
        daemons may use.
        """
        endpoint = next((each.endpoint for each in self.members if each.is_foreign), None)
        return (
            None if endpoint is None else f"the etcd member at {endpoint} is of another cluster; daemons must use one"
        )

    def _problems(self) -> dict[str, str]:
        """Return the reasons against grants by their kind, besides a failure."""
        kinds = {
            "full": DATABASE_FULL if self.is_full else None,
            "corrupt": DATA_CORRUPT if "CORRUPT" in self.alarms else None,
            "foreign": self._foreign,
            "frozen": self._state.frozen,
            "went back": None if (reason := self._state.grant_objection) is None else f"{reason}: {WENT_BACK}",
        }
        return {kind: reason for kind, reason in kinds.items() if reason}

    def _ask(self) -> None:
        self._timer = None
        self._asking = Deferred.fromCoroutine(self._ask_all())
        self._asking.addErrback(self._fail)
        self._asking.addCallback(self._set_timer)

    def _fail(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("etcd could not be checked", failure)

    def _set_timer(self, _: None) -> None:
        self._asking = None
        if self.running:
            self._timer = self._clock.callLater(STATE_SECONDS * self._jitter(), self._ask)

    async def _ask_all(self) -> None:
        await self._read_state()
        now, refused = self._clock.seconds(), self._counts.requests["txn", "no_space"]
        if now >= self._next_members or refused != self._refused_writes:
            self._next_members, self._refused_writes = now + MEMBERS_SECONDS * self._jitter(), refused
            await self._read_members()
        if now >= self._next_count and self.failure is None:
            await self._count()
            # A new store soon has its first IDs, and to count none costs nothing.
            seconds = COUNT_SECONDS * max(1.0, self.ids / _COUNTED_IDS) if self.ids else MEMBERS_SECONDS
            self._next_count = now + seconds * self._jitter()
        self._log_changes()

    async def _read_state(self) -> None:
        try:
            found = await self._client.range(Range(key=self._keys.meta), _PATIENCE_SECONDS)
            self._state.learn(found.kvs[0] if found.kvs else None)
        except EtcdFailure as failure:
            self.failure = str(failure)
        except StoreUnavailable as error:
            self.failure = error.reason
        else:
            self.failure = None

    async def _read_members(self) -> None:
        self.members = await gather(self._read_member(each.endpoint) for each in self.members)
        known = [each.status for each in self.members if each.status is not None]
        if known:
            # Every member lists the alarms of the whole cluster.
            texts = " ".join(text for status in known for text in status.errors)
            self.alarms = frozenset(alarm for alarm in ("NOSPACE", "CORRUPT") if f"alarm:{alarm}" in texts)

    async def _read_member(self, endpoint: str) -> MemberState:
        try:
            status = await self._client.status(endpoint)
        except EtcdFailure as failure:
            return MemberState(endpoint, None, str(failure))
        try:
            read = await self._client.range_at(endpoint, Range(key=self._keys.meta))
        except EtcdFailure:
            return MemberState(endpoint, status)
        return MemberState(endpoint, status, is_foreign=self._state.is_elsewhere(read))

    async def _count(self) -> None:
        ids = self._keys.ids
        try:
            found = await self._client.range(
                Range(key=ids, range_end=prefix_end(ids), count_only=True), _PATIENCE_SECONDS
            )
        except EtcdFailure:
            # The next read of the state reports it if it lasts.
            return
        self.ids = found.count

    def _log_changes(self) -> None:
        """Log each problem once when it begins and once when it ends."""
        problems = self._problems()
        if self.failure is not None:
            problems["failure"] = self.failure
        for kind, (begins, ends) in _LOGGED.items():
            if kind in problems and kind not in self._logged:
                self._log.warn(begins, reason=problems[kind])
            elif kind in self._logged and kind not in problems:
                self._log.info(ends)
        self._logged = frozenset(problems)
