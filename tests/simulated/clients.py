"""Clients' requests to daemons, the answers that reach them, and the resulting history of each
ID.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError

from rqdisco.backends.gossip.core.inputs import Cancelled, Delivered
from rqdisco.core.addresses import is_local
from rqdisco.core.errors import LoopbackConflict, NoSuchID, RequestRefused, StoreUnavailable
from rqdisco.core.records import Node, Put, Record
from rqdisco.core.views import View
from tests.simulated.boots import Boot
from tests.simulated.choices import usual_delay
from tests.simulated.hosts import Host
from tests.simulated.schedule import CallFate
from tests.simulated.tasks import Promise
from tests.support.history import History

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

DEADLINE = 7.0
# An owner may still carry out a forwarded request for so long after it arrived here (R2).
FORWARD_SECONDS = 4.5
# The disk usually writes a grant and its revocation in less than that.
_REVOKING_SECONDS = 0.04


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
        # When the daemon refused it, or noticed that the client was gone.
        self.refused: float | None = None

    def is_unrevoked(self, key: str, addr: str, settled: float) -> bool:
        """Report whether its daemon died before it could revoke a grant: before all was settled, or with
        a disk that was full from the refusal on.
        """
        boot = self.boot
        if boot is None or boot.died is None:
            return False
        if boot.died < settled:
            return True
        if self.refused is None:
            return False
        full_since = boot.unrevoked.get((key, addr))
        return full_since is not None and full_since <= self.refused + _REVOKING_SECONDS

    def stop(self) -> None:
        """The client dies."""
        self.is_dead = True
        self.when_stopped()


class Clients:
    """`lost_answers` is how often an answer is lost; nobody sends requests once they
    `are_unresponsive`; `histories` are by ID.
    """

    def __init__(self, world: AnyWorld) -> None:
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
            what, key, lambda boot: boot.directory.register(key, Node(addr=addr), client_host(addr)), at, pending
        )
        if reply is not None:
            self._world.nodes[key, addr].has_wrong_address = isinstance(reply.refusal, LoopbackConflict)
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
                return StoreUnavailable("not asked after all")
            return boot.directory.remove(key, addr)

        reply = await self.call(f"remove {addr}", key, arrive, at)
        if reply is None:
            self._world.judge.removal_unanswered(key, addr, arrived + FORWARD_SECONDS)
        if reply is not None and reply.refusal is None:
            self._world.judge.node_removed(key, len(reply.value.record.nodes))
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
        reply = await self.call(
            what, key, lambda boot: boot.directory.claim(key, _put(addr), client_host(addr)), at, pending
        )
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
        reply = await self.call(
            f"report {addr}", key, lambda boot: boot.directory.report(key, _put(addr), client_host(addr))
        )
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
        """Send a request to some daemon; return None where no answer comes. `make` returns the
        command, or an error without asking the daemon. Checks that the answer is in time (I6).
        """
        world = self._world
        pending = pending or PendingRequest()
        world.faults.before_a_call()
        name = f"{what} {world.ordinal(key)}"
        fate, one, other = world.choices.call(name)
        await world.sleep(fate.late or usual_delay(one))
        up = [host for host in world.hosts if host.boot is not None]
        if world.faults.are_over:
            # A drained daemon is removed, or out of the load balancer: it is not ready for lists.
            up = [host for host in up if host.takes_part] or up
        if not up or pending.is_dead or self.are_unresponsive:
            return None
        host = at if at in up and at is not None and at.takes_part else up[int(other * len(up))]
        assert host.boot is not None
        request = _Request(self, host.boot, what, key, pending, fate, usual_delay(7 * one % 1))
        request.send(make)
        reply: Reply | None = await request.answer
        if reply is not None:
            pending.may_be_granted = pending.may_be_granted and (reply.refusal is not None or pending.is_dead)
        return reply

    def refuse(self, what: str, key: str, reply: Reply, error: Exception) -> Exception:
        """Note a refusal."""
        return self._refusal(what, key, reply, error, str(error))

    def _refusal(self, what: str, key: str, reply: Reply, error: BaseException, traceback: str) -> Exception:
        if isinstance(error, NoSuchID):
            self._world.judge.answered_unknown(reply.boot, key)
        if not isinstance(error, (StoreUnavailable, RequestRefused, CancelledError)):
            self._world.judge.violate(f"{what} failed: {traceback}")
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        self._world.trace.log(f"{what} at {reply.at}: no, {why}")
        self._world.count("refused")
        assert isinstance(error, Exception)
        return error


class _Request:
    """A request to a daemon, and its answer."""

    def __init__(
        self,
        clients: Clients,
        boot: Boot,
        what: str,
        key: str,
        pending: PendingRequest,
        fate: CallFate,
        usual: float,
    ) -> None:
        self.answer = Promise()
        self._clients, self._boot, self._what, self._key, self._pending = clients, boot, what, key, pending
        self._world = world = clients._world
        self._fate, self._usual = fate, usual
        self._hangs_up = fate.hangs_up
        self._number: int | None = None
        self._held: list[Any] = []
        self._is_over = self._is_from_copy = False
        self._reply = Reply(boot, world.judge.is_owner(boot, key))
        self._asked, self._slept = world.now, boot.slept - boot.sleeps_for
        pending.boot, pending.may_be_granted = boot, True
        pending.when_stopped = self._stop

    def send(self, make: Callable[[Boot], Any]) -> None:
        world, boot = self._world, self._boot
        slept = self._slept
        self._begin(make)
        if self._hangs_up:
            world.timeline.callLater(self._usual, self._close)
        world.timeline.callLater(DEADLINE + 4.5, self._lose, boot, slept)

    def _begin(self, make: Callable[[Boot], Any]) -> None:
        boot, world = self._boot, self._world
        if not boot.is_alive or self.answer.is_kept:
            return
        if boot.sleeps_for > 0:
            world.timeline.callLater(boot.sleeps_for + self._usual, self._begin, make)
            return
        # A request that waited in the socket of a stopped daemon is not late by the daemon's fault.
        self._asked, self._slept = world.now, boot.slept
        self._is_from_copy = boot.store.settled(self._key) is not None
        command = make(boot)
        boot.refused.discard((self._key, self._what.partition(" ")[2]))
        if isinstance(command, Exception):
            self._end(command)
            return
        world.faults.during_a_request(self._what, self._key, self._reply.was_owner)
        self._number = boot.next_request
        boot.request(command, self._answered)
        if not self._is_over:
            boot.later(DEADLINE, self._expire)

    def _answered(self, result: Any, must_confirm: bool) -> None:
        if not must_confirm:
            self._end(result)
        elif self._fate.held:
            # It is not known at once whether the client is still there.
            self._held.append(result)
            self._boot.later(self._fate.held, self._release)
        else:
            self._confirm(result)

    def _release(self) -> None:
        if not self._is_over:
            self._confirm(self._held[0])

    def _confirm(self, result: Any) -> None:
        self._end(result)
        assert self._number is not None
        self._boot.put(Delivered(self._number, was_delivered=True))

    def _expire(self) -> None:
        """The API answers at its deadline, whatever comes later."""
        if not self._is_over:
            self._cancel()
            self._end(StoreUnavailable("not decided in time"))

    def _stop(self) -> None:
        """The client dies."""
        self._hangs_up = True
        self._world.timeline.callLater(self._usual, self._close)

    def _close(self) -> None:
        """The daemon notices that the client hung up."""
        self._boot.when_awake(self._closed)

    def _closed(self) -> None:
        if self._number is not None and not self._is_over:
            self._cancel()
            self._end(CancelledError())

    def _cancel(self) -> None:
        assert self._number is not None
        self._boot.forget_request(self._number)
        # What is being held back was decided already.
        self._boot.put(Delivered(self._number, was_delivered=False) if self._held else Cancelled(self._number))

    def _end(self, result: Any) -> None:
        """The daemon sends its answer in this very call."""
        boot, world, reply = self._boot, self._world, self._reply
        if self._is_over or not boot.is_alive:
            return
        self._is_over = True
        if world.now - self._asked > DEADLINE + 0.1 + boot.slept - self._slept:
            world.judge.violate(f"I6 {self._what} took {world.now - self._asked:.1f} s")
        if isinstance(result, Exception):
            reply.refusal = self._clients.refuse(self._what, self._key, reply, result)
            # A grant whose answer was lost at the owner is revoked there, unless it dies before;
            # elsewhere nobody knows.
            self._pending.may_be_granted = not reply.was_owner
            self._pending.refused = world.now
        else:
            reply.value = result
            world.judge.answered(boot, self._key, self._what, result, self._is_from_copy, self._asked)
        is_lost = self._hangs_up or self._fate.answer_lost
        if is_lost:
            world.trace.log(f"lost: {self._what} at {boot.host.name}: {getattr(result, 'bootstrap', None) or ''}")
        delay = self._fate.answer_late or self._usual
        world.timeline.callLater(delay, self.answer.keep, None if is_lost else reply)

    def _lose(self, boot: Boot, slept: float) -> None:
        if self.answer.is_kept:
            return
        # The daemon died, which the client sees; or it did not answer.
        if boot.is_alive and boot.slept == slept and not self._is_over:
            self._world.judge.violate(f"I6 {self._what} is never answered")
        self.answer.keep(None)


def client_host(addr: str) -> str:
    """Return the client host of a node: the third number of a loopback address is the machine."""
    host = addr.partition(":")[0]
    return f"machine {host.split('.')[2]}" if is_local(addr) else host


def _put(addr: str) -> Put:
    host = addr.partition(":")[0]
    return Put(node=Node(addr=addr, raft_addr=f"{host}:2", node_id=host), value=addr)
