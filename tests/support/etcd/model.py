"""A model of an etcd cluster, and what is wrong with it: members that end, hang or are cut off,
elections, and backups that are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from tests.support.etcd.accounts import Accounts
from tests.support.etcd.keyspace import Keyspace
from tests.support.etcd.serving import Lease, Member, ServingEtcd
from tests.support.etcd.wire import Refusal, no_leader


class Saved(msgspec.Struct):
    """A backup of the whole store."""

    keyspace: Keyspace
    accounts: Accounts
    leases: dict[int, int]
    alarms: dict[str, int]
    term: int


def always() -> bool:
    return True


class ModelEtcd(ServingEtcd):
    """A cluster. Faults are methods; requests come through `gateway.Gateway`."""

    def stop(self, name: str) -> None:
        """End a member as kill -9 does: connections are refused, and its streams break."""
        member = self.members[name]
        member.running = member.hanging = False
        self.break_streams(name)
        self._break_connections(member)
        self._settle()
        self._let_arrive(member)

    def start(self, name: str) -> None:
        """Start a member that was stopped. A single one has lost the tokens, which are in memory."""
        self.members[name].running = True
        if len(self.members) == 1:
            self.accounts.tokens.clear()
        self._settle()

    def hang(self, name: str) -> None:
        """Stop a member as SIGSTOP does: it takes connections and requests, and does not answer."""
        self.members[name].hanging = True
        self._settle()

    def resume(self, name: str) -> None:
        """Let a member go on that hung; it deals with the requests that were sent meanwhile."""
        member = self.members[name]
        member.hanging = False
        self._settle()
        self._let_arrive(member)

    def cut_off(self, *names: str) -> None:
        """Cut members off from the others, each alone. Clients still reach them, and watches stay
        silent.
        """
        for name in names:
            self.members[name].cut_off = True
        self._settle()

    def notice(self, *names: str) -> None:
        """Let members that have no majority notice that they know no leader, as they do after about
        a second; without names, all. Streams that need a leader end.
        """
        for member in self.members.values():
            if (not names or member.name in names) and not self.serves(member):
                member.knows_leader = False
        for stream in list(self.streams):
            if stream.needs_leader and not stream.member.knows_leader:
                self._end(stream, no_leader())

    def rejoin(self, *names: str, late: Callable[[], bool] = always) -> None:
        """Connect members again, by default all. `late` says of each write that was sent to a
        member without a majority whether it is applied now or lost.
        """
        for name in names or self.members:
            self.members[name].cut_off = False
        self._settle()
        self.decide(late)

    def decide(self, late: Callable[[], bool] = always) -> None:
        """Apply or forget the writes that are undecided, if there is a majority."""
        if self.leader is None:
            return
        undecided, self.undecided = self.undecided, []
        for write in undecided:
            if late():
                self.tick()
                try:
                    write()
                except Refusal:
                    continue  # nobody waits for its answer
                self.deliver()

    def elect(self, name: str | None = None) -> None:
        """Elect a leader; every lease gets its full time to live again."""
        candidates = [member for member in self.members.values() if member.reachable]
        if len(candidates) * 2 <= len(self.members):
            raise AssertionError("no majority can elect a leader")
        self.leader = candidates[0] if name is None else self.members[name]
        assert self.leader in candidates
        self.term += 1
        for number, lease in self.leases.items():
            self._arm(number, lease)
        for member in candidates:
            member.knows_leader = True
            member.revision = None
        self.deliver()

    def depose(self) -> None:
        """Take the leader away until `elect`."""
        self._keep_revisions(self.members.values())
        self.leader = None

    def break_streams(self, name: str | None = None) -> None:
        """Break the connections of watches, to one member or to all."""
        for stream in list(self.streams):
            if name in (None, stream.member.name):
                self._end(stream, None)

    def save(self) -> Saved:
        """Return a backup."""
        leases = {number: lease.ttl for number, lease in self.leases.items()}
        return Saved(self.keyspace.copy(), self.accounts.copy(), leases, dict(self.alarms), self.term)

    def restore(self, saved: Saved) -> None:
        """Put a backup back: all members stop, and start with it. The cluster ID stays."""
        self.break_streams()
        self.undecided.clear()
        for member in self.members.values():
            member.waiting.clear()
            self._break_connections(member)
        self.keyspace = saved.keyspace.copy()
        self.accounts = saved.accounts.copy()
        self.alarms = dict(saved.alarms)
        self.term = saved.term
        self.leases = {number: Lease(ttl, 0.0) for number, ttl in saved.leases.items()}
        self._expiries.clear()
        if self.leader is not None:
            self.elect(self.leader.name)

    @staticmethod
    def _break_connections(member: Member) -> None:
        connections, member.connections = member.connections, {}
        for broken in connections.values():
            broken()

    @staticmethod
    def _let_arrive(member: Member) -> None:
        waiting, member.waiting = member.waiting, []
        for arrive in waiting:
            arrive()

    def _settle(self) -> None:
        """Find out who leads after a change of the members."""
        reachable = [member for member in self.members.values() if member.reachable]
        majority = len(reachable) * 2 > len(self.members)
        self._keep_revisions(self.members.values() if not majority else set(self.members.values()) - set(reachable))
        if not majority:
            self.leader = None
        elif self.leader is None or not self.leader.reachable:
            self.leader = None
            self._keep_revisions(reachable)
            if self.elects_at_once:
                self.elect()
        else:
            for member in reachable:
                member.knows_leader = True
                member.revision = None
            self.deliver()

    def _keep_revisions(self, members: Iterable[Member]) -> None:
        for member in members:
            member.revision = self.revision_of(member)
