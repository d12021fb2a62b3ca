"""Clients' requests to daemons, the answers that reach them, and the resulting history of each
ID.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from rqdisco.backends.gossip.directory import FORWARD_SECONDS
from rqdisco.core.errors import NoSuchID, RequestRefused, StoreUnavailable
from rqdisco.core.records import Node, Put, Record
from rqdisco.core.views import View
from tests.simulated.hosts import Boot, Host
from tests.support.history import History

if TYPE_CHECKING:
    from tests.simulated.world import World

DEADLINE = 7.0


class Reply:
    """The answer to a client: `value`, or `refusal`. `at` is the host, `was_owner` whether it
    decides about the ID.
    """

    def __init__(self, boot: Boot, was_owner: bool) -> None:
        self.boot, self.was_owner = boot, was_owner
        self.at = boot.host.name
        self.value: Any = None
        self.refusal: Exception | None = None


class PendingRequest:
    """A request on its way."""

    def __init__(self) -> None:
        self.when_stopped: Callable[[], None] = lambda: None
        self.boot: Boot | None = None
        self.is_dead = False
        # Whether the daemon may have granted the client in an answer that it did not receive.
        self.may_be_granted = False

    def stop(self) -> None:
        """The client dies."""
        self.is_dead = True
        self.when_stopped()


class Clients:
    """`lost_answers` is how often an answer is lost; nobody sends requests once they
    `are_unresponsive`; `histories` are by ID.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.lost_answers = 0.0
        self.are_unresponsive = False
        self.histories: dict[str, History] = {}

    async def create(self) -> Record | None:
        reply = await self.call("mint", "", lambda boot: boot.directory.create())
        return None if reply is None or reply.refusal else reply.value

    async def register(self, key: str, addr: str, at: Host | None, pending: PendingRequest) -> list[str] | None:
        """Return the list in the answer to a node; None for a refusal or no answer."""
        token = self._begin(key, addr, "register")
        what = f"register {addr}"
        reply = await self.call(
            what, key, lambda boot: boot.directory.register(key, Node(addr=addr), _host(addr)), at, pending
        )
        registration = self._answered(key, token, reply)
        if registration is None or reply is None:
            return None
        listed = [each.addr for each in registration.listed]
        self._history(key).end(token, tuple(listed), self._world.now, local=registration.on_behalf)
        how = "on the owner's behalf" if registration.on_behalf else registration.bootstrap or ""
        self._world.trace.log(f"register {addr} at {reply.at}: {how} {listed}")
        self._world.judge.node_answered(key, addr, registration)
        return listed

    async def remove(self, key: str, addr: str, at: Host | None = None) -> bool | None:
        """Return whether there was something to remove; None for a refusal or no answer.

        With a host given, nothing is removed if the address is listed there already: the client did
        not mean that registration.
        """
        token = self._begin(key, addr, "remove")
        was_listed: list[bool] = []
        arrived = 0.0

        def arrive(boot: Boot) -> Any:
            nonlocal arrived
            arrived = self._world.now
            was_listed.append(self._world.judge.lists(boot, key, addr))
            if at is not None and was_listed[0]:
                return _fail_attempts()
            return boot.directory.remove(key, addr)

        reply = await self.call(f"remove {addr}", key, arrive, at)
        if reply is None:
            self._world.judge.removal_unanswered(key, addr, arrived + FORWARD_SECONDS)
        if reply is not None and reply.refusal is None:
            self._world.judge.took_off(key, len(reply.value.record.nodes))
        removal = self._answered(key, token, reply)
        if removal is None or reply is None:
            return None
        if removal.removed and reply.was_owner and not was_listed[0]:
            self._world.judge.violate(f"R9 {addr} was removed, and was not listed when that was asked")
        self._history(key).end(token, tuple(each.addr for each in removal.record.nodes), self._world.now)
        return bool(removal.removed)

    async def read(self, key: str) -> list[str] | None:
        """Return the list as its owner has it."""
        token = self._begin(key, "", "read")
        reply = await self.call("read", key, lambda boot: boot.directory.look_up_at_owner(key))
        record = self._answered(key, token, reply)
        if record is None:
            return None
        listed = [each.addr for each in record.nodes]
        self._history(key).end(token, tuple(listed), self._world.now, consistent=True)
        return listed

    async def leader(self, key: str) -> str | None:
        """Return the value of the leader key at some daemon."""
        view = await self._look(key, "leader", lambda boot: boot.directory.look_up(key))
        return None if view is None or view.leader is None else str(view.leader.value)

    async def resolve(self, key: str) -> None:
        """Look up the ID as a name, as a resolver does, and as a list."""
        await self._look(key, "name", lambda boot: boot.directory.look_up_name(key.lower()))
        await self._look(key, "list", lambda boot: boot.directory.look_up(key))

    async def _look(self, key: str, what: str, make: Callable[[Boot], Any]) -> View | None:
        reply = await self.call(what, key, make)
        if reply is None or reply.refusal:
            return None
        view: View = reply.value
        return view

    async def claim(self, key: str, addr: str, at: Host | None, pending: PendingRequest) -> bool | None:
        """Return whether the leader key was won."""
        token = self._begin(key, addr, "claim")
        what = f"claim {addr}"
        reply = await self.call(what, key, lambda boot: boot.directory.claim(key, _put(addr), _host(addr)), at, pending)
        claim = self._answered(key, token, reply)
        if claim is None or reply is None:
            return None
        self._history(key).end(token, claim.won, self._world.now)
        self._world.trace.log(f"claim {addr} at {reply.at}: {'won' if claim.won else 'not won'}")
        if claim.won:
            self._world.judge.claimed(key)
        return bool(claim.won)

    async def report(self, key: str, addr: str) -> None:
        token = self._begin(key, addr, "report")
        reply = await self.call(f"report {addr}", key, lambda boot: boot.directory.report(key, _put(addr), _host(addr)))
        if self._answered(key, token, reply) is not None:
            self._history(key).end(token, True, self._world.now)
            self._world.judge.acknowledge(key, addr)

    def _history(self, key: str) -> History:
        return self.histories.setdefault(key, History())

    def _begin(self, key: str, addr: str, kind: Any) -> int:
        return self._history(key).begin(addr or "somebody", kind, addr, self._world.now)

    def _answered(self, key: str, token: int, reply: Reply | None) -> Any:
        """Return the value, if the answer is no refusal."""
        history = self._history(key)
        if reply is None:
            history.lose(token)
        elif reply.refusal is not None:
            history.end(token, 503, self._world.now)
        else:
            return reply.value
        return None

    async def call(
        self,
        what: str,
        key: str,
        make: Callable[[Boot], Any],
        at: Host | None = None,
        pending: PendingRequest | None = None,
    ) -> Reply | None:
        """Send a request to some daemon; return None where no answer comes. Checks that it is in
        time (I6).
        """
        world = self._world
        random, net, timeline = world.random, world.net, world.timeline
        pending = pending or PendingRequest()
        world.faults.before_a_call()
        await world.sleep(net.delay())
        up = [host for host in world.hosts if host.boot is not None]
        if world.faults.are_over:
            # A drained daemon is removed, or out of the load balancer: it is not ready for lists.
            up = [host for host in up if host.takes_part] or up
        if not up or pending.is_dead or self.are_unresponsive:
            return None
        host = at if at in up and at is not None and at.takes_part else random.choice(up)
        boot = host.boot
        assert boot is not None
        pending.boot, pending.may_be_granted = boot, True
        reply = Reply(boot, world.judge.is_owner(boot, key))
        answer: Deferred[Reply | None] = Deferred()
        asked, slept = world.now, boot.clock.slept - boot.clock.sleeps_for
        hangs_up = random.random() < self.lost_answers / 2
        calling: list[Deferred[Any]] = []

        def begin() -> None:
            nonlocal asked, slept
            if not boot.is_alive or answer.called:
                return
            if boot.clock.sleeps_for > 0:
                timeline.callLater(boot.clock.sleeps_for + net.delay(), begin)
                return
            # A request that waited in the socket of a stopped daemon is not late by the daemon's
            # fault.
            asked, slept = world.now, boot.clock.slept
            doing = Deferred.fromCoroutine(make(boot))
            calling.append(doing)
            boot.refused.discard((key, what.partition(" ")[2]))
            if not doing.called:
                boot.clock.callLater(DEADLINE, lambda: None if doing.called else doing.cancel())
            world.faults.during_a_request(what, key, reply.was_owner)
            doing.addBoth(keep_outcome)

        def stop() -> None:
            nonlocal hangs_up
            hangs_up = True
            timeline.callLater(net.delay(), close)

        def close() -> None:
            if boot.is_alive and calling and not calling[0].called:
                calling[0].cancel()

        def keep_outcome(outcome: Any) -> None:
            # The real API sends its answer in this very call.
            if not boot.is_alive:
                return
            if world.now - asked > DEADLINE + 0.1 + boot.clock.slept - slept:
                world.judge.violate(f"I6 {what} took {world.now - asked:.1f} s")
            if isinstance(outcome, Failure):
                reply.refusal = self._refusal(what, key, reply, outcome)
                # A grant whose answer was lost at the owner is revoked there, unless it dies
                # before; elsewhere nobody knows.
                pending.may_be_granted = not reply.was_owner
            else:
                reply.value = outcome
                world.judge.answered(boot, key, what, outcome)
            if answer.called:
                return
            if hangs_up or random.random() < self.lost_answers:
                world.trace.log(f"lost: {what} at {host.name}: {getattr(outcome, 'alone', None) or ''}")
                timeline.callLater(net.delay(), _deliver, answer, None)
            else:
                timeline.callLater(net.delay(), _deliver, answer, reply)

        pending.when_stopped = stop
        begin()
        if hangs_up:
            timeline.callLater(net.delay(), close)
        timeline.callLater(DEADLINE + 4.5, self._too_late, answer, boot, what, slept)
        node_answered = await answer
        if node_answered is not None:
            pending.may_be_granted = pending.may_be_granted and (node_answered.refusal is not None or pending.is_dead)
        return node_answered

    def _refusal(self, what: str, key: str, reply: Reply, failure: Failure) -> Exception:
        error = failure.value
        if isinstance(error, NoSuchID):
            self._world.judge.unknown(reply.boot, key)
        if not isinstance(error, (StoreUnavailable, RequestRefused, CancelledError)):
            self._world.judge.violate(f"{what} failed: {failure.getTraceback()}")
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        self._world.trace.log(f"{what} at {reply.at}: no, {why}")
        self._world.count("refused")
        assert isinstance(error, Exception)
        return error

    def _too_late(self, answer: Deferred[Reply | None], boot: Boot, what: str, slept: float) -> None:
        if answer.called:
            return
        # The daemon died, which the client sees; or it did not answer.
        if boot.is_alive and boot.clock.slept == slept:
            self._world.judge.violate(f"I6 {what} is never answered")
        answer.callback(None)


def _deliver(answer: Deferred[Reply | None], node_answered: Reply | None) -> None:
    if not answer.called:
        answer.callback(node_answered)


async def _fail_attempts() -> None:
    raise StoreUnavailable("not asked after all")


def _host(addr: str) -> str:
    """Return the client host of a node."""
    return addr.partition(":")[0]


def _put(addr: str) -> Put:
    host = addr.partition(":")[0]
    return Put(node=Node(addr=addr, raft_addr=f"{host}:2", node_id=host), value=addr)
