"""Several daemons in memory, peers of each other, on one clock; every message is delivered at once
unless its link is cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from rqdisco.backends.gossip.assembly import GossipBackend, GossipConfig, GossipContext
from rqdisco.backends.gossip.core import decide, queries
from rqdisco.backends.gossip.core.inputs import Forget
from rqdisco.backends.gossip.core.messages import HIDDEN_CLAIMS, VERBS, Digest, Hello, decode_message, encode_message
from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerUnreachable
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.limits import Limits
from rqdisco.core.records import Node
from rqdisco.service.wiring.storage import StoredDirectory, open_storage
from rqdisco.service.wiring.stored import build_expiry_sweeper, build_leader_monitor
from rqdisco.telemetry.events import Event, Events
from tests.support.any_daemon import WALL_US, memory_system
from tests.support.daemon import Threads, default_config, result
from tests.support.disk import ModelDisk


class DirectNetwork:
    """Delivers messages between daemons, by the names in their URLs; no message passes a pair in
    `cut`.

    A request is lost where its sender and verb are in `dropped`, an answer where they are in
    `swallowed`, or where `lost_answers` has its receiver and a part of it.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.daemons: dict[str, GossipDaemon] = {}
        self.cut: set[tuple[str, str]] = set()
        self.unreachable: set[tuple[str, str]] = set()
        self.dropped: set[tuple[str, str]] = set()
        self.swallowed: set[tuple[str, str]] = set()
        # Answers wait for these, by the sender of the request and the verb.
        self.held_answers: dict[tuple[str, str], Deferred[None]] = {}
        self.lost_answers: set[tuple[str, bytes]] = set()
        # How far all wall clocks were set, in seconds.
        self.set_by = 0.0
        self.messages: list[tuple[str, str, str, bytes]] = []
        # Daemons that do not say in their hellos that they hide claims, as before R5c.
        self.before_hidden_claims: set[str] = set()
        # The last sessions, by sender and receiver.
        self.sessions: dict[tuple[str, str], str] = {}

    def split(self, *names: str) -> None:
        """Cut these daemons off from all others, both ways."""
        for one in self.daemons:
            for other in self.daemons:
                if (one in names) != (other in names):
                    self.cut.add((one, other))

    def heal(self) -> None:
        """End all cuts."""
        self.cut.clear()
        self.unreachable.clear()

    def hello_of(self, sender: str, hello: bytes) -> bytes:
        """Return a hello as the release of its sender sends it."""
        if sender not in self.before_hidden_claims:
            return hello
        message = decode_message(hello, Hello)
        features = tuple(each for each in message.features if each != HIDDEN_CLAIMS)
        return encode_message(replace(message, features=features))

    def link(self, sender: str) -> Callable[[str], DirectLink]:
        """Return the factory of one daemon's links."""
        return lambda url: DirectLink(self, sender, url)


class DirectLink:
    """The link from one daemon to a URL."""

    def __init__(self, network: DirectNetwork, sender: str, url: str) -> None:
        self._network = network
        self._sender = sender
        self._receiver = url.removeprefix("http://")
        self._session: str | None = None

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        return self._deliver("hello", hello, seconds)

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        if self._session is None:
            return fail(NotGreeted())
        return self._deliver(verb, body, seconds)

    def _deliver(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        pair = self._sender, self._receiver
        daemon = self._network.daemons.get(self._receiver)
        is_dropped = (self._sender, verb) in self._network.dropped
        if is_dropped or pair in self._network.cut or daemon is None or not daemon.is_up:
            return fail(PeerUnreachable("refused"))
        self._network.messages.append((*pair, verb, body))
        if verb == "hello":
            hello = self._network.hello_of(self._sender, body)
            answered = daemon.backend.driver.greet(hello).addCallback(self._begin_session)
        else:
            assert self._session is not None
            answered = daemon.backend.driver.serve(self._session, verb, body)
        answered.addCallback(self._lose)
        held = self._network.held_answers.get((self._sender, verb))
        if held is not None:
            answered.addCallback(lambda content: held.addCallback(lambda _: content))
        is_swallowed = (self._sender, verb) in self._network.swallowed
        if is_swallowed or (self._receiver, self._sender) in self._network.cut or pair in self._network.unreachable:
            answered.addErrback(lambda failure: None)
            answered = Deferred()
        return answered.addTimeout(seconds, self._network.clock, _time_out)

    def _lose(self, answer: bytes) -> bytes | Deferred[bytes]:
        is_lost = any(to == self._sender and part in answer for to, part in self._network.lost_answers)
        return Deferred() if is_lost else answer

    def _begin_session(self, greeting: tuple[str, bytes]) -> bytes:
        self._session, answer = greeting
        self._network.sessions[self._sender, self._receiver] = self._session
        return self._network.hello_of(self._receiver, answer)


def _time_out(_: object, seconds: float) -> NoReturn:
    raise PeerUnreachable("no answer in time")


class GossipDaemon:
    """Everything of a daemon with peers except its sockets."""

    def __init__(
        self,
        network: DirectNetwork,
        name: str,
        seeds: Sequence[str] = (),
        *,
        disk: ModelDisk | None = None,
        seed: int = 0,
        limits: Limits | None = None,
        ack_required: bool = False,
        called: str | None = None,
        unused_days: float | None = None,
        boot_id: str = "boot-a",
        booted: float = 0.0,
    ) -> None:
        self.network, self.name, self.seeds = network, name, seeds
        self.disk = disk or ModelDisk()
        self.threads = Threads()
        self.random = Random(f"{name} {seed}")
        self.failures: list[str] = []
        self.limits = limits or Limits()
        self.clock = clock = network.clock
        system = memory_system(
            clock,
            self.random,
            boot_id=boot_id,
            wall_us=lambda: WALL_US + int((clock.seconds() + network.set_by) * 1_000_000),
            # The host of the daemon booted at that second of the clock.
            uptime=lambda: clock.seconds() - booted,
            fail=self.failures.append,
        )
        storage = open_storage(default_config(), system, self.disk, self.threads)
        self.owner, self.store, self.journal, self.now = (
            storage.incarnation,
            storage.store,
            storage.journal,
            storage.now,
        )
        # The reasons for which it was fenced.
        self.fences: list[str] = []
        self.backend = GossipBackend(
            GossipContext(
                config=GossipConfig(
                    name=called or name,
                    url=f"http://{name}",
                    seeds=tuple(f"http://{each}" for each in seeds),
                    ack_required=ack_required,
                ),
                limits=self.limits,
                incarnation=self.owner,
                store=self.store,
                journal=self.journal,
                metadata=storage.metadata,
                on_fenced=self.fences.append,
                environment=GossipEnvironment(
                    clock=clock,
                    link=network.link(name),
                    now=self.now,
                    wall_us=system.wall_us,
                    random=system.random,
                ),
            )
        )
        self.directory, self.report = self.backend.directory, self.backend.report
        self.state, self.members = self.backend.state, self.backend.state.members
        self.unused_days = unused_days
        self.events: list[Event] = []
        events = Events(self.events.append)
        self.leaders = build_leader_monitor(system, storage, events)
        self.leaders.startService()
        stored = StoredDirectory(
            directory=self.directory,
            has_pending_grant=self.backend.has_pending_grant,
            revoke_stuck=self.backend.revoke_stuck,
            watermarks=self.backend.watermarks,
            may_expire=self.backend.may_expire,
            is_ownerless=self.report.is_ownerless,
        )
        self.sweep = build_expiry_sweeper(unused_days, system, storage, stored, events)
        self.sweep.startService()
        self.is_up = True
        network.daemons[name] = self
        self.backend.driver.startService()

    def stop(self) -> None:
        """Kill the daemon."""
        self.is_up = False
        self.backend.driver.stopService()
        self.sweep.stopService()
        self.leaders.stopService()

    def restart(self, disk: ModelDisk | None = None, **options: Any) -> GossipDaemon:
        """Kill this daemon and start the next one, on the same disk unless another is given."""
        self.stop()
        seed = self.random.randrange(1 << 30)
        options = {"limits": self.limits, "unused_days": self.unused_days, **options}
        return GossipDaemon(self.network, self.name, self.seeds, disk=disk or self.disk.kill(), seed=seed, **options)

    @property
    def is_ready(self) -> bool:
        """Report whether it may decide about IDs from before its start."""
        return decide.is_ready(self.state)

    @property
    def objection(self) -> str | None:
        """Why it decides nothing."""
        return decide.objection(self.state)

    @property
    def unconfirmed(self) -> list[str]:
        """The incarnations that it waits for before it is ready."""
        return [each.incarnation for each in decide.unconfirmed(self.state)]

    @property
    def is_converged(self) -> bool:
        """Report whether all members agree, and it has all their changes."""
        return queries.is_converged(self.state)

    @property
    def hints(self) -> int:
        """The number of registrations that it stores for other owners."""
        return self.state.hints.count

    def reaches(self, incarnation: str) -> bool:
        """Report whether a member answered the last request."""
        return queries.is_up(self.state, incarnation)

    def contact(self, incarnation: str) -> float | None:
        """Return the seconds since the last contact with a member."""
        return queries.seconds_since_contact(self.state, incarnation, self.clock.seconds())

    async def forget(self, name: str) -> int:
        """Make it the owner of a lost daemon's IDs; return their number."""
        ids: int = await self.backend.driver.request(Forget(name))
        return ids

    async def drain(self, to: str | None = None) -> str:
        """Hand its IDs over."""
        return await self.backend.admin.drain(to)

    def greet(self, receiver: GossipDaemon) -> None:
        """Begin a session with another daemon, by the last hello."""
        sent = reversed(self.network.messages)
        hello = next(body for sender, _, verb, body in sent if (sender, verb) == (self.name, "hello"))
        self.network.sessions[self.name, receiver.name], _ = result(receiver.backend.driver.greet(hello))

    def send(self, receiver: GossipDaemon, verb: str, message: msgspec.Struct) -> Deferred[Any]:
        """Send a message in the session with another daemon; fire with the answer."""
        session = self.network.sessions[self.name, receiver.name]
        answer = receiver.backend.driver.serve(session, verb, encode_message(message))
        return answer.addCallback(lambda body: decode_message(body, VERBS[verb][1]))

    def fence(self, by: GossipDaemon, why: str) -> None:
        """Let another daemon tell it that it must decide nothing."""
        result(by.send(self, "digest", Digest(held={}, fingerprint=by.members.fingerprint, receiver_fenced=why)))


def trio(clock: Clock, names: str = "abc", **options: Any) -> tuple[DirectNetwork, list[GossipDaemon]]:
    """Return daemons that have met each other; each was started with the first one as its seed."""
    network = DirectNetwork(clock)
    daemons = [GossipDaemon(network, name, [names[0]] if name != names[0] else [], **options) for name in names]
    settle(clock, 5)
    return network, daemons


def settle(clock: Clock, seconds: float) -> None:
    """Let time pass."""
    clock.pump([0.1] * int(seconds * 10))


Three = tuple[DirectNetwork, list[GossipDaemon]]


def go(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that needs no time."""
    return result(Deferred.fromCoroutine(coroutine))


def wait(clock: Clock, coroutine: Coroutine[Any, Any, Any], seconds: float = 8) -> Any:
    """Return the result of a coroutine within this time."""
    waiting = Deferred.fromCoroutine(coroutine)
    settle(clock, seconds)
    return result(waiting)


def create_id(daemon: GossipDaemon) -> str:
    """Create an ID."""
    discovery_id: str = go(daemon.directory.create()).id
    return discovery_id


def register(daemon: GossipDaemon, discovery_id: str, addr: str, host: str | None = None) -> list[str]:
    """Register a node from the client host `host`; return the listed addresses."""
    return [node.addr for node in go(daemon.directory.register(discovery_id, Node(addr=addr), host)).listed]


def listed(daemon: GossipDaemon, discovery_id: str) -> list[str]:
    """Return the addresses that a daemon lists."""
    return [node.addr for node in go(daemon.directory.look_up(discovery_id)).nodes]


def older(disk: ModelDisk) -> ModelDisk:
    """Return a copy of the disk to be restored later, without the test's own `before` function."""
    before = ModelDisk.__new__(ModelDisk)
    kept = copy.deepcopy({name: value for name, value in disk.__dict__.items() if name != "before"})
    before.__dict__.update({**kept, "locked": set(), "before": lambda operation: None})
    return before
