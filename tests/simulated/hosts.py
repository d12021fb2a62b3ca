"""Daemons on hosts that crash. Everything that runs of a daemon is the real code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from rqdisco.backends.gossip.assembly import GossipBackend, GossipConfig, GossipContext
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.transport.seals import ReplayWindow
from rqdisco.backends.limits import Limits
from rqdisco.backends.single.expiry_sweep import ExpirySweeper, OwnIDs
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.errors import CannotStart
from rqdisco.core.records import Record
from rqdisco.service.wiring.storage import open_storage
from rqdisco.telemetry.events import Events
from tests.simulated.network import Net
from tests.simulated.timeline import Trace, ViewOfTime
from tests.support.daemon import WALL_US, default_config, memory_system
from tests.support.disk import ModelDisk


class Boot:
    """One run of a daemon, from its start to its end."""

    def __init__(self, host: Host, make: Callable[..., GossipBackend] = GossipBackend) -> None:
        self.host = host
        self.is_alive = True
        self.began = host.net.timeline.now
        self.died: float | None = None
        self.clock = ViewOfTime(host.net.timeline)
        random, net, timeline = host.random, host.net, host.net.timeline
        self.pending: list[Callable[[], Any]] = []
        self._system = memory_system(
            self.clock,
            random,
            boot_id=host.boot_id,
            wall_us=lambda: WALL_US + int((timeline.now + host.skew) * 1_000_000),
            uptime=lambda: timeline.now,
            call_soon=lambda call: self.clock.callLater(0, call),
            fail=lambda why: host.crash("kill"),
        )
        self._storage = storage = open_storage(default_config(), self._system, host.disk, self._in_thread, 1 << 14)
        self.owner, self.store, self.journal = storage.incarnation, storage.store, storage.journal
        self.backend = make(
            GossipContext(
                config=GossipConfig(
                    name=host.name, url=f"http://{host.name}", seeds=host.seeds, ack_required=host.ack_required
                ),
                limits=host.limits,
                incarnation=self.owner,
                store=self.store,
                journal=self.journal,
                metadata=storage.metadata,
                environment=GossipEnvironment(
                    clock=self.clock,
                    link=lambda url: net.link(self, url),
                    now=storage.now,
                    wall_us=self._system.wall_us,
                    random=random.randbytes,
                    jitter=self._system.jitter,
                ),
            )
        )
        self.directory = self.backend.directory
        # The registrations refused by an owner that this daemon forwarded to, by ID and address.
        self.refused: set[tuple[str, str]] = set()
        self._record_refusals()
        self.sweep = None if host.unused_seconds is None else self._sweep(host.unused_seconds)
        self._replay_windows: dict[str, ReplayWindow] = {}
        # Set for a daemon of a rule's proof that accepts a repeated message.
        self.is_credulous = getattr(self.backend, "is_credulous", False)

    def _sweep(self, seconds: float) -> ExpirySweeper:
        """Return the service that forgets IDs that never had a node."""
        return ExpirySweeper(
            self.clock,
            self.store,
            self.journal,
            self.backend.watermarks,
            Events(),
            OwnIDs(
                owner=self.owner,
                now=self._storage.now,
                version_ages=VersionAges(self.owner, int(seconds * 1000), self._storage.metadata),
                may_expire=self.backend.may_expire,
                has_pending_grant=self.backend.local.has_pending_grant,
            ),
            interval=3.0,
        )

    def _record_refusals(self) -> None:
        directory: Any = self.directory
        call = directory._forward

        async def recording(owner: str, seconds: float, op: str, discovery_id: str, **more: Any) -> Any:
            outcome = await call(owner, seconds, op, discovery_id, **more)
            if op == "register" and outcome.refusal == "Undecided":
                self.refused.add((discovery_id, more["node"].addr))
            return outcome

        directory._forward = recording

    def hints_of_its_own(self, key: str) -> list[str]:
        """Return the addresses that it answered for an ID of its own and did not add yet, if it may
        decide about the ID.
        """
        if not self.backend.peers.guard.is_ready:
            return []
        return [hint.node.addr for _, hint in self.backend.hint_store.unmerged(key, self.owner)]

    def accepts(self, session: str, counter: int) -> bool:
        """Report whether the seals let a message pass: each only once."""
        return self._replay_windows.setdefault(session, ReplayWindow()).accept(counter) or self.is_credulous

    def records(self) -> dict[str, Record]:
        found = ((key, self.store.settled(key)) for key in self.store.ids())
        return {key: record for key, record in found if record is not None}

    def _in_thread(self, call: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        random = self.host.random
        seconds = random.uniform(0.0001, 0.02) if random.random() < 0.98 else random.uniform(0.02, 0.8)
        self.pending.append(call)

        def run() -> None:
            self.pending.remove(call)
            maybeDeferred(call).chainDeferred(done)

        self.clock.callLater(seconds, run)
        return done


class _PowerCut(BaseException):
    pass


class Host:
    """A host on which a daemon runs."""

    def __init__(
        self,
        net: Net,
        trace: Trace,
        name: str,
        seeds: tuple[str, ...],
        random: Random,
        make: Callable[..., GossipBackend],
    ) -> None:
        self.net, self.trace, self.name, self.seeds, self.random, self._make = net, trace, name, seeds, random, make
        self.disk = ModelDisk()
        self.boot: Boot | None = None
        self.boot_id = f"{name}-0"
        self.skew = 0.0
        self.limits = Limits()
        self.ack_required = False
        self.unused_seconds: float | None = None
        self.backups: list[ModelDisk] = []
        self.is_gone = False
        self._kept: dict[str, Record] = {}
        self._hinted: list[str] = []
        self._was_drained = False
        net.hosts[name] = self

    @property
    def known(self) -> dict[str, Record]:
        """The records on its disk."""
        return self._kept if self.boot is None else self.boot.records()

    @property
    def hinted(self) -> list[str]:
        """The IDs for which its disk has hints."""
        return (
            self._hinted
            if self.boot is None
            else [each.hint.id for each in self.boot.backend.hint_store._hints.values()]
        )

    def has_met(self, incarnation: str) -> bool:
        """Report whether it knows of such a daemon; for one that does not run, whether it may."""
        if self.boot is None:
            return bool(self._kept)
        return self.boot.backend.peers.members.get(incarnation) is not None

    @property
    def is_drained(self) -> bool:
        """Report whether nobody asks for the records on its disk any more."""
        if self.boot is None:
            return self._was_drained
        # A daemon may have been handed over, although it does not know yet.
        return self.boot.backend.peers.members.own.state != "member"

    @property
    def takes_part(self) -> bool:
        """Report whether the daemon here is still a member, as far as it knows."""
        peers = None if self.boot is None else self.boot.backend.peers
        return peers is not None and peers.members.own.state == "member" and peers.guard.fenced is None

    def start(self) -> None:
        if self.boot is not None or self.is_gone:
            return
        try:
            self.boot = Boot(self, self._make)
        except CannotStart as refusal:
            self.trace.log(f"{self.name} cannot start: {refusal}")
            # The process ends, and releases its lock.
            self.disk = self.disk.kill()
            self.net.timeline.callLater(5, self.start)
            return
        self.trace.log(f"{self.name} starts as {self.boot.owner}")
        self.boot.backend.peers.startService()
        if self.boot.sweep is not None:
            self.boot.sweep.startService()

    def crash(self, kind: str) -> None:
        """End without notice: `kill` keeps what was written, `power` what was synced and perhaps
        more.
        """
        if self.boot is None:
            return
        self._kept, self._hinted, self._was_drained = self.known, self.hinted, self.is_drained
        boot, self.boot = self.boot, None
        boot.is_alive, boot.died = False, self.net.timeline.now
        boot.clock.end()
        self.trace.log(f"{self.name} dies ({kind})")
        for call in boot.pending:
            self._cut_short(call)
        if kind == "power":
            self.boot_id = f"{self.name}-{self.random.randrange(1 << 30)}"
            self.disk = self.disk.crash(self.random)
        else:
            self.disk = self.disk.kill()

    def back_up(self) -> None:
        """Keep the disk as it is for later: a snapshot of the host, identity and all."""
        disk = copy.deepcopy(self.disk)
        self.backups.append(disk.kill())

    def copy(self) -> Host:
        """Return an image of the host, under another name in the network."""
        duplicate = Host(self.net, self.trace, f"{self.name}'", self.seeds, self.random, self._make)
        self.back_up()
        duplicate.disk = self.backups.pop()
        duplicate.unused_seconds = self.unused_seconds
        self.trace.log(f"{self.name} is copied")
        return duplicate

    def roll_back(self) -> None:
        if self.backups:
            self.trace.log(f"{self.name} is rolled back")
            self.crash("kill")
            self.disk = self.random.choice(self.backups)
            self.backups = []
            self._kept, self._hinted, self._was_drained = {}, [], False

    def lose_disk(self) -> None:
        self.trace.log(f"{self.name} loses its disk")
        self.crash("kill")
        self.disk = ModelDisk()
        self.backups = []
        self._kept, self._hinted, self._was_drained = {}, [], False

    def stand_still(self, seconds: float) -> None:
        """Stop the process for a while, as on a host that is migrated or swaps."""
        if self.boot is not None:
            self.trace.log(f"{self.name} stands still for {seconds:.1f} s")
            self.boot.clock.sleep(seconds)

    def _cut_short(self, call: Callable[[], Any]) -> None:
        steps = self.random.randrange(4)

        def before(_: str) -> None:
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise _PowerCut

        self.disk.before = before
        try:
            call()
        except (_PowerCut, Exception):
            pass
        finally:
            self.disk.before = lambda operation: None
