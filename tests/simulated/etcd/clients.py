"""Clients' requests to stateless daemons."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rqdisco.core.errors import NoSuchID
from rqdisco.core.records import ClaimOutcome, RegistrationOutcome
from rqdisco.coroutines import Running
from rqdisco.http.requests.runner import ANSWER_SECONDS
from tests.simulated.clients import Clients, PendingRequest, Reply
from tests.simulated.etcd.hosts import EtcdBoot

if TYPE_CHECKING:
    from tests.simulated.etcd.world import EtcdWorld

# A removal that got no answer may be carried out for so long after it arrived.
_REMOVAL_SECONDS = 8.0
# A client has given up by then.
_LOST_SECONDS = ANSWER_SECONDS + 4.5


class EtcdClients(Clients):
    _world: EtcdWorld

    async def remove(self, key: str, addr: str, at: Any = None) -> bool | None:
        """Return whether there was something to remove; None for a refusal or no answer."""
        judge, token = self._world.judge, self._begin(key, addr, "remove")
        reading = self._begin(key, "", "read")
        judge.removal_begins(key, addr)
        asked = self._world.now
        # The registrations of the address that the daemon read, first of all.
        first: list[str | None] = []

        def remove(boot: EtcdBoot) -> Any:
            store: Any = boot.directory._store
            snapshot = store.snapshot

            async def note_first(discovery_id: str) -> Any:
                store.snapshot = snapshot
                found = await snapshot(discovery_id)
                first.append(None if found.record is None else found.record.node_nonces.get(addr))
                return found

            store.snapshot = note_first
            return boot.directory.remove(key, addr)

        reply = await self.call(f"remove {addr}", key, remove, at)
        removal = self._answered(key, token, reply)
        if reply is not None and isinstance(reply.refusal, NoSuchID):
            judge.removal_is_over(key, addr)
            return False
        if removal is None:
            judge.removal_unanswered(key, addr, max(self._world.now, asked + _REMOVAL_SECONDS))
            return None
        judge.removal_ends(key, addr, removal, first[0] if first else None)
        listed = tuple(each.addr for each in removal.record.nodes)
        self._history(key).end(token, True, self._world.now)
        # If its answer was lost, the list is that of a later moment.
        self._history(key).end(reading, listed, self._world.now, consistent=True)
        return bool(removal.removed)

    def _answered(self, key: str, token: int, reply: Reply | None) -> Any:
        history = self._history(key)
        begun = history.operations[token]
        if (reply is None or reply.refusal is not None) and begun.kind in ("register", "claim"):
            # A grant that was not answered is revoked, after others may have read of it (E3).
            history.begin("nobody", "remove", begun.addr, self._world.now)
        return super()._answered(key, token, reply)

    async def clear_leader(self, key: str) -> bool:
        """Return whether there is no leader key any more."""
        reply = await self.call("clear leader", key, lambda boot: boot.directory.clear_leader(key))
        return reply is not None and reply.refusal is None

    async def call(
        self,
        what: str,
        key: str,
        make: Callable[[Any], Any],
        at: Any = None,
        pending: PendingRequest | None = None,
    ) -> Reply | None:
        """Send a request to some daemon; return None where no answer comes. Checks that it is in
        time (I6).
        """
        world = self._world
        pending = pending or PendingRequest()
        await world.sleep(world.net.delay())
        ready = [host for host in world.hosts if host.boot is not None and host.boot.is_open]
        if not ready or pending.is_dead or self.are_unresponsive:
            return None
        host = at if at in ready else world.random.choice(ready)
        assert host.boot is not None
        request = _Request(self, host.boot, what, key, pending)
        request.send(make)
        return await request.answer

    def refuse(self, what: str, key: str, reply: Reply, failure: Any) -> Exception:
        return self._refusal(what, key, reply, failure.value, failure.getTraceback())


class _EtcdReply(Reply):
    def __init__(self, boot: EtcdBoot) -> None:
        self.boot: Any = boot
        self.at = boot.host.name
        self.was_owner = False
        self.value: Any = None
        self.refusal: Exception | None = None


class _Request:
    """A request to a daemon, and its answer."""

    def __init__(self, clients: EtcdClients, boot: EtcdBoot, what: str, key: str, pending: PendingRequest) -> None:
        self.answer: Deferred[Reply | None] = Deferred()
        self._clients, self._boot, self._what, self._key, self._pending = clients, boot, what, key, pending
        self._world = clients._world
        self._running: Running[Any] | None = None
        self._is_served = self._is_answered = False
        self._asked, self._slept = self._world.now, 0.0
        self._reply = _EtcdReply(boot)
        self._hangs_up = self._world.random.random() < clients.lost_answers / 2
        shown: Any = boot
        pending.boot, pending.may_be_granted = shown, True
        pending.when_stopped = self._stop

    def send(self, make: Callable[[Any], Coroutine[Deferred[Any], Any, Any]]) -> None:
        world, boot = self._world, self._boot
        boot.clock.receive(lambda: self._begin(make))
        if self._hangs_up:
            self._later(world.net.delay(), self._close)
        world.timeline.callLater(_LOST_SECONDS, self._lose)

    def _begin(self, make: Callable[[Any], Coroutine[Deferred[Any], Any, Any]]) -> None:
        boot, world = self._boot, self._world
        if self.answer.called:
            return
        # A request that waited in the socket of a stopped daemon is not late by its fault.
        self._asked, self._slept, self._is_served = world.now, boot.clock.slept, True
        handler = make(boot)
        world.faults.during_a_request(self._what, self._key, True)
        try:
            waited = handler.send(None)
        except StopIteration as end:
            self._ended(end.value)
            return
        except Exception:
            self._ended(Failure())
            return
        self._running = running = Running(handler, waited, lambda outcome: outcome)
        boot.clock.callLater(ANSWER_SECONDS, running.cancel)
        if world.random.random() < 0.1:
            # It is not known at once whether the client is still there.
            running.hold_results()
            boot.clock.callLater(world.random.uniform(0, 2), running.release_results)
        running.then(self._ended)

    def _stop(self) -> None:
        """The client dies."""
        self._hangs_up = True
        self._later(self._world.net.delay(), self._close)

    def _close(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._world.timeline.callLater(seconds, self._boot.clock.receive, call)

    def _ended(self, outcome: Any) -> None:
        """The daemon sends its answer in this very call."""
        boot, world, clients, reply = self._boot, self._world, self._clients, self._reply
        if not boot.is_alive:
            return
        self._is_answered = True
        if world.now - self._asked > ANSWER_SECONDS + 0.1 + boot.clock.slept - self._slept:
            world.judge.violate(f"I6 {self._what} took {world.now - self._asked:.1f} s")
        if isinstance(outcome, Failure):
            reply.refusal = clients.refuse(self._what, self._key, reply, outcome)
            # What was granted is revoked, or repeated later, if this daemon lives long enough.
            self._pending.may_be_granted = False
            boot.refused.append(self._pending)
        else:
            reply.value = outcome
            world.judge.sent(boot, self._key, self._what, outcome, self._asked)
        is_lost = self._hangs_up or world.random.random() < clients.lost_answers
        if is_lost:
            world.trace.log(f"lost: {self._what} at {boot.host.name}: {_grant_in(outcome)}")
        world.timeline.callLater(world.net.delay(), self._deliver, None if is_lost else reply)

    def _deliver(self, reply: Reply | None) -> None:
        if self.answer.called:
            return
        if reply is not None and reply.refusal is None and not self._pending.is_dead:
            self._pending.may_be_granted = False
        self.answer.callback(reply)

    def _lose(self) -> None:
        if self.answer.called:
            return
        # The daemon died, which the client sees; or it did not answer.
        is_late = self._world.now - self._asked > ANSWER_SECONDS + 0.1
        if (
            is_late
            and self._is_served
            and not self._is_answered
            and self._boot.is_alive
            and self._boot.clock.slept == self._slept
        ):
            self._world.judge.violate(f"I6 {self._what} is never answered")
        self.answer.callback(None)


def _grant_in(outcome: Any) -> str:
    if isinstance(outcome, RegistrationOutcome):
        return outcome.bootstrap or ""
    return "won" if isinstance(outcome, ClaimOutcome) and outcome.won else ""
