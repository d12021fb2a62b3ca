"""The requests that the model of an etcd cluster serves: its store, leases and watches.

It has no clock, no randomness and no I/O. `now` gives the time in seconds, and `tick` expires
leases; every request ticks first. One store serves all members; a member that does not hear of a
majority keeps the revision it had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

import msgspec

from tests.support.etcd.accounts import Accounts
from tests.support.etcd.keyspace import Change, DeleteResult, Keyspace, PutResult, RangeResult, TxnResult, contains
from tests.support.etcd.wire import (
    DeleteRequest,
    OperationRequest,
    PutRequest,
    RangeRequest,
    Refusal,
    TxnRequest,
    WatchCreateRequest,
    key_not_provided,
    lease_not_found,
    no_space,
)

MINIMUM_TTL = 2
MAXIMUM_TTL = 9_000_000_000
_ROUNDING = 1e-6  # clocks add up seconds
_FIRST_LEASE = 2324035693950992187


class Lease(msgspec.Struct):
    ttl: int
    expires: float


class Watcher:
    """One watch of a stream; it has sent all changes before the revision `due`."""

    __slots__ = ("due", "id", "request")

    def __init__(self, watch_id: int, request: WatchCreateRequest, due: int) -> None:
        self.id = watch_id
        self.request = request
        self.due = due

    def wants(self, change: Change) -> bool:
        return contains(self.request.key, self.request.range_end, change.after.key)


class Stream:
    """WatchHub over one connection. A gateway renders what it sends."""

    def __init__(
        self,
        member: Member,
        needs_leader: bool,
        changed: Callable[[Watcher, int, Sequence[Change]], None],
        ended: Callable[[Refusal | None], None],
    ) -> None:
        self.member = member
        self.needs_leader = needs_leader
        self.watchers: dict[int, Watcher] = {}
        self.changed = changed
        self.ended = ended  # None if the connection breaks


class Member:
    """A member of the cluster."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.id = number
        self.running = True
        self.hanging = False
        self.cut_off = False
        self.knows_leader = True
        self.revision: int | None = None  # its newest one, if it does not hear of a majority
        self.waiting: list[Callable[[], None]] = []  # what was sent to it while it hung
        self.connections: dict[object, Callable[[], None]] = {}  # to call when they break

    @property
    def reachable(self) -> bool:
        """Report whether other members reach it."""
        return self.running and not self.hanging and not self.cut_off


def ignore(_: float) -> None:
    pass


class ServingEtcd:
    """A cluster of which some members may not hear of a majority; `model` changes that.

    `armed` is called with the time at which a lease will expire.
    """

    def __init__(
        self,
        now: Callable[[], float],
        names: Sequence[str] = ("e1",),
        armed: Callable[[float], None] = ignore,
        cluster_id: int = 0x48276A8F75B6A87,
    ) -> None:
        self.members = {name: Member(name, 0x2E12_4B42_0000_0001 + number) for number, name in enumerate(names)}
        self.cluster_id = cluster_id
        self.leader: Member | None = next(iter(self.members.values()))
        self.term = 2
        self.keyspace = Keyspace()
        self.accounts = Accounts(now)
        self.alarms: dict[str, int] = {}  # with the ID of a member
        self.leases: dict[int, Lease] = {}
        self.streams: list[Stream] = []
        self.undecided: list[Callable[[], object]] = []  # writes that no majority has seen yet
        self.elects_at_once = True
        self.db_size = 32768
        self.version = "3.4.23"
        self._now = now
        self._armed = armed
        self._expiries: list[tuple[float, int]] = []
        self._next_lease = _FIRST_LEASE

    # Time

    def tick(self) -> None:
        """Expire the leases whose time is up, if there is a leader to do so."""
        if self.leader is None:
            return
        now, expiries = self._now() + _ROUNDING, self._expiries
        while expiries and expiries[0][0] <= now:
            at, number = heappop(expiries)
            lease = self.leases.get(number)
            if lease is not None and lease.expires == at:
                del self.leases[number]
                self.keyspace.revoke(number)
                self.deliver()

    def next_expiry(self) -> float | None:
        """Return when the next lease may expire."""
        return self._expiries[0][0] if self._expiries else None

    # Requests

    def serves(self, member: Member) -> bool:
        """Report whether a member hears of the leader, and so serves linearizable requests."""
        return self.leader is not None and member.reachable

    def revision_of(self, member: Member) -> int:
        """Return the newest revision that a member knows."""
        return self.keyspace.revision if member.revision is None else member.revision

    def range(self, request: RangeRequest, user: str | None, member: Member) -> RangeResult:
        self.accounts.check(user, request.key, request.range_end, "READ")
        return self.keyspace.range(request, member.revision)

    def put(self, request: PutRequest, user: str | None) -> PutResult:
        self.accounts.check(user, request.key, b"", "WRITE")
        if "NOSPACE" in self.alarms:
            raise no_space()
        if request.lease and request.lease not in self.leases:
            raise lease_not_found()
        return self.keyspace.put(request)

    def delete(self, request: DeleteRequest, user: str | None) -> DeleteResult:
        self.accounts.check(user, request.key, request.range_end, "WRITE")
        return self.keyspace.delete(request)

    def txn(self, request: TxnRequest, user: str | None) -> TxnResult:
        self.accounts.check_txn(user, request)
        if "NOSPACE" in self.alarms and _puts(request):
            raise no_space()
        path = self.keyspace.path(request)
        self.keyspace.check_path(path)
        return self.keyspace.execute(path)

    def grant(self, number: int, ttl: int) -> tuple[int, int]:
        """Return the ID and the time to live of a new lease."""
        if ttl > MAXIMUM_TTL:
            raise Refusal(11, "etcdserver: too large lease TTL")
        if "NOSPACE" in self.alarms:
            raise no_space()
        if not number:
            self._next_lease += 1
            number = self._next_lease
        if number in self.leases:
            raise Refusal(9, "etcdserver: lease already exists")
        lease = Lease(max(ttl, MINIMUM_TTL), 0.0)
        self.leases[number] = lease
        self.keyspace.leases[number] = set()
        self._arm(number, lease)
        return number, lease.ttl

    def revoke(self, number: int, user: str | None) -> None:
        if number not in self.leases:
            raise lease_not_found()
        for key in self.keyspace.leases[number]:
            self.accounts.check(user, key, b"", "WRITE")
        del self.leases[number]
        self.keyspace.revoke(number)

    def keep_alive(self, number: int) -> int:
        """Return the time to live of a lease that starts again, 0 if there is none."""
        lease = self.leases.get(number)
        if lease is None:
            return 0
        self._arm(number, lease)
        return lease.ttl

    def time_to_live(self, number: int) -> tuple[int, int]:
        """Return the whole seconds that are left, -1 without such a lease, and those granted."""
        lease = self.leases.get(number)
        if lease is None:
            return -1, 0
        # etcd rounds down, and a moment has always passed since the lease was granted.
        return max(0, math.ceil(lease.expires - self._now()) - 1), lease.ttl

    # WatchHub

    def watch(self, stream: Stream, request: WatchCreateRequest, user: str | None) -> Watcher:
        """Add a watch to a stream. Its changes come with `deliver`."""
        self.accounts.check(user, request.key, request.range_end, "READ")
        if request.range_end and request.range_end != b"\0" and request.range_end <= request.key:
            raise Refusal(0, "mvcc: watcher range is empty")
        number = request.watch_id
        if number and number in stream.watchers:
            raise Refusal(0, "mvcc: duplicate watch ID provided on the WatchStream")
        if not number:
            while number in stream.watchers:
                number += 1
        watcher = Watcher(number, request, request.start_revision or self.revision_of(stream.member) + 1)
        stream.watchers[number] = watcher
        return watcher

    def deliver(self) -> None:
        """Send what changed to all watches of members that hear of it."""
        for stream in list(self.streams):
            if self.serves(stream.member):
                self._catch_up(stream)

    def end(self, stream: Stream) -> None:
        """The client has closed a stream."""
        if stream in self.streams:
            self.streams.remove(stream)

    def _catch_up(self, stream: Stream) -> None:
        keyspace = self.keyspace
        revision = keyspace.revision
        for watcher in list(stream.watchers.values()):
            if watcher.due > revision:
                continue
            if watcher.due < keyspace.compacted:
                del stream.watchers[watcher.id]
                stream.changed(watcher, keyspace.compacted, ())
                continue
            changes = [each for each in keyspace.log[keyspace.first_change(watcher.due) :] if watcher.wants(each)]
            watcher.due = revision + 1
            if changes:
                stream.changed(watcher, 0, changes)

    def _end(self, stream: Stream, reason: Refusal | None) -> None:
        self.streams.remove(stream)
        stream.ended(reason)

    def _arm(self, number: int, lease: Lease) -> None:
        lease.expires = self._now() + lease.ttl
        heappush(self._expiries, (lease.expires, number))
        self._armed(lease.expires)


def _puts(request: TxnRequest) -> bool:
    """Report whether a transaction needs space; etcd does not look into inner transactions."""
    return any(each.request_put is not None for each in (*request.success, *request.failure))


def check_key(request: RangeRequest | PutRequest | DeleteRequest) -> None:
    """Refuse a request without a key."""
    if not request.key:
        raise key_not_provided()


def only_reads(operations: Sequence[OperationRequest]) -> bool:
    return all(each.request_range is not None for each in operations)
