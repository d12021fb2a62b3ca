"""Stateless daemons that are killed, and stopped for a while. Everything that runs of a daemon is the
real code.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd.assembly import BackendConfig, BackendContext, EtcdBackend
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import EtcdFailure
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.limits import Limits
from rqdisco.core.records import Moment
from tests.simulated.clients import PendingRequest
from tests.simulated.timeline import Later, Timeline, ViewOfTime
from tests.support.any_daemon import WALL_US
from tests.support.etcd.daemon import PREFIX, Observed
from tests.support.etcd.memory import ModelStreams

if TYPE_CHECKING:
    from tests.simulated.etcd.world import EtcdWorld

Switch = Callable[[EtcdBackend], None]


class ProcessClock(ViewOfTime):
    """The clock of a process that may be stopped. When it goes on, it first deals with what it
    received meanwhile, or with its overdue timers.
    """

    def __init__(self, timeline: Timeline, random: Random) -> None:
        super().__init__(timeline)
        self._random = random
        self._overdue: list[Callable[[], None]] = []
        self._received: list[Callable[[], None]] = []

    def callLater(self, delay: float, call: Callable[..., Any], *args: object, **kwargs: object) -> Later:
        later = Later(self._timeline.now + delay, call, args, kwargs)
        self._timeline.callLater(delay, self._when_awake, later.run, self._overdue)
        return later

    def receive(self, call: Callable[[], None]) -> None:
        """Let the process receive something from a socket."""
        self._when_awake(call, self._received)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._timeline.callLater(self.sleeps_for, self._wake)

    def _when_awake(self, call: Callable[[], None], waiting: list[Callable[[], None]]) -> None:
        if self._has_ended:
            return
        if self.sleeps_for > 0:
            waiting.append(call)
        else:
            call()

    def _wake(self) -> None:
        if self.sleeps_for > 0:
            return
        # Stopped inside poll(), as mostly, it reads its sockets before it looks at the time.
        queues = [self._received, self._overdue]
        if self._random.random() < 0.3:
            queues.reverse()
        for queue in queues:
            waiting = list(queue)
            queue.clear()
            for call in waiting:
                self._when_awake(call, queue)


class EtcdBoot:
    """One run of a daemon, from its start to its end; it `is_open` once it has read `v1/meta`."""

    def __init__(self, host: EtcdHost, world: EtcdWorld) -> None:
        self.host = host
        self.is_alive = True
        self.is_open = False
        self.began = world.now
        self.died: float | None = None
        self.clock = ProcessClock(world.timeline, host.random)
        # Whether an answer was older than one that had come before its request was sent (E8).
        self.went_back = False
        self.seen = 0
        # Requests that were refused: a grant of theirs may still have to be revoked.
        self.refused: list[PendingRequest] = []
        self.guard = RevisionGuard(Seen(), lambda reason: world.trace.log(f"{host.name}: {reason}"))
        store, random = world.store, host.random
        endpoints = list(store.endpoints)
        random.shuffle(endpoints)
        self.client = client = EtcdClient(
            ClientConfig(tuple(endpoints)),
            world.net.transport(self),
            ModelStreams(store.gateway, store.endpoints, self.clock, world.net.delay),
            self.clock,
            self.guard,
            EtcdCounts(),
        )
        self.backend = EtcdBackend(
            BackendConfig(prefix=PREFIX, limits=host.limits, machine=host.name),
            BackendContext(
                client=client,
                guard=self.guard,
                clock=self.clock,
                uptime=self.clock.seconds,
                environment=Environment(
                    now=lambda: Moment(0, int(world.now * 1000)),
                    wall_us=lambda: WALL_US + int((world.now + host.skew) * 1_000_000),
                    random=random.randbytes,
                ),
                jitter=lambda: random.uniform(0.75, 1.25),
                count=lambda: None,
                write_objection=lambda: None,
                observer=Observed(),
            ),
        )
        world.switch(self.backend)
        self.directory = self.backend.directory
        self._world = world
        self._open()

    @property
    def has_unsettled_grants(self) -> bool:
        """Report whether a grant is under way, or has to be revoked yet."""
        return self.backend.grants._under_way > 0

    def _open(self) -> None:
        def opened(outcome: object) -> None:
            if not isinstance(outcome, Failure):
                self.is_open = True
                self._world.trace.log(f"{self.host.name} is ready")
                self._world.watchers.watch(self)
            elif outcome.check(EtcdFailure):
                self.clock.callLater(1, self._open)
            elif self.is_alive:
                self._world.failed(outcome)

        Deferred.fromCoroutine(self.backend.open()).addBoth(opened)


class EtcdHost:
    """A host on which a daemon runs; `skew` is how wrong its wall clock is, in seconds."""

    # Daemons without state are never drained.
    takes_part = True

    def __init__(self, world: EtcdWorld, name: str, random: Random) -> None:
        self._world = world
        self.name = name
        self.random = random
        self.boot: EtcdBoot | None = None
        self.skew = 0.0
        self.limits = Limits()
        self.is_held = False

    def start(self) -> None:
        """Start the daemon, unless it runs, or its operator keeps it stopped."""
        if self.boot is None and not self.is_held:
            self._world.trace.log(f"{self.name} starts")
            self.boot = EtcdBoot(self, self._world)

    def crash(self) -> None:
        """Kill the daemon, between two of its steps."""
        boot, self.boot = self.boot, None
        if boot is None:
            return
        boot.is_alive, boot.died = False, self._world.now
        boot.clock.end()
        if boot.has_unsettled_grants:
            # Nobody revokes them.
            for pending in boot.refused:
                pending.may_be_granted = True
        self._world.trace.log(f"{self.name} dies")

    def stand_still(self, seconds: float) -> None:
        """Stop the process for a while, as SIGSTOP does."""
        if self.boot is not None:
            self._world.trace.log(f"{self.name} stands still for {seconds:.1f} s")
            self.boot.clock.sleep(seconds)
