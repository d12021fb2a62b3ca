"""Goes round all nodes that are registered, and probes each whose time has come: evenly, and never
many at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, get_args

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, StoreUnavailable
from rqdisco.core.records import Node
from rqdisco.probes.probe_state import ALIVE, NodeStatus, Outcome, ProbeState, next_state, node_status, pauses
from rqdisco.probes.resolution.host_names import HostNames
from rqdisco.probes.targets import Allowed, ProbeTarget, target_of

State = Literal["unknown", "up", "not_ready", "down", "unresolved", "not_allowed"]
Met = Outcome | Literal["not_allowed"]

STATES: tuple[State, ...] = get_args(State)
OUTCOMES: tuple[Met, ...] = (*get_args(Outcome), "not_allowed")
AT_ONCE = 100
# Of a name; a node that has more is up if one of these is.
MOST_ADDRESSES = 3
_ROUNDS_PER_INTERVAL = 5
# Looking costs some 15 microseconds, and is only worth it as far as probes can follow.
_LOOKS_PER_PROBE = 10
_LOOKS_AT_ONCE = 100
_SHORTEST_ROUND = 0.2
_LATENESS = 0.1


class Probe(Protocol):
    """Probes one address."""

    def __call__(self, target: ProbeTarget, ip: str) -> Awaitable[Outcome]:
        """What was met there; it takes seconds at most."""


class _Watched(msgspec.Struct):
    """A target, when it is to be probed next, and whether that is going on."""

    due: float
    state: State = "unknown"
    standing: ProbeState | None = None
    is_busy: bool = False


class ProbeScheduler(Service):
    """Probes the nodes of all IDs that `directory` lists, every `interval` seconds each, at most
    `rate` of them in a second; one that stays down up to ten times less often. What is registered
    more than once is probed once.

    `allowed` says which addresses may be probed at all. Of a name it is asked about what the
    look-up gave, and that is connected to, so that a name cannot say one thing and then another.
    `jitter` gives numbers around 1. `states` counts targets, `outcomes` what probes met, `lasted`
    is in seconds that the last round took.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Directory,
        knock: Probe,
        names: HostNames,
        allowed: Allowed,
        clock: IReactorTime,
        jitter: Callable[[], float],
        *,
        interval: float,
        rate: float,
    ) -> None:
        self._directory = directory
        self._knock = knock
        self._names = names
        self._allowed = allowed
        self._clock = clock
        self._jitter = jitter
        self._interval = interval
        self._gap = 1 / rate
        self._breath = _LOOKS_AT_ONCE / _LOOKS_PER_PROBE / rate
        self._next = 0.0
        self._looks = 0
        self._turn = DeferredSemaphore(AT_ONCE)
        # Those of the round before move over as they are met again; what is left then is registered
        # no more.
        self._watched: dict[ProbeTarget, _Watched] = {}
        self._before: dict[ProbeTarget, _Watched] = {}
        self._probes: set[Deferred[None]] = set()
        self._going: Deferred[None] | None = None
        self.states: Counter[State] = Counter()
        self.outcomes: Counter[Met] = Counter()
        self.lasted: float | None = None

    def startService(self) -> None:
        super().startService()
        self._going = Deferred.fromCoroutine(self._go_round())

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        ending = [each for each in (self._going, *self._probes) if each is not None]
        for each in ending:
            each.cancel()
        return DeferredList(ending, consumeErrors=True)

    def seen(self, node: Node) -> NodeStatus | None:
        watched = self._find(target_of(node))
        return (
            None
            if watched is None or watched.standing is None
            else node_status(watched.standing, self._clock.seconds())
        )

    def heard(self, node: Node) -> None:
        watched = self._find(target_of(node))
        if watched is not None and watched.standing is not None and watched.standing.failures:
            self._hold(watched, "unknown", None)
            watched.due = self._clock.seconds()

    async def _go_round(self) -> None:
        while self.running:
            began = self._clock.seconds()
            try:
                await self._round()
            except CancelledError:
                return
            except Exception:
                self._log.failure("a round of probes failed")
            took = self._clock.seconds() - began
            self.lasted = took
            pause = max(_SHORTEST_ROUND, self._interval / _ROUNDS_PER_INTERVAL * self._jitter() - took)
            try:
                await self._wait(pause)
            except CancelledError:
                return

    async def _round(self) -> None:
        for discovery_id in await self._directory.ids():
            try:
                record = await self._directory.look_up(discovery_id)
            except (NoSuchID, StoreUnavailable):
                continue
            await self._breathe()
            for node in record.nodes:
                await self._breathe()
                await self._visit(target_of(node), discovery_id)
        for target, watched in self._before.items():
            if watched.is_busy:
                self._watched[target] = watched
            else:
                self.states[watched.state] -= 1
        self._before, self._watched = self._watched, {}

    async def _breathe(self) -> None:
        """Let others have their turn after so many looks."""
        self._looks += 1
        if self._looks % _LOOKS_AT_ONCE == 0:
            await self._wait(self._breath)

    async def _visit(self, target: ProbeTarget | None, discovery_id: str) -> None:
        """See to a target that is registered, if there is one: probe it if its time has come."""
        if target is None:
            return
        if target in self._watched:
            # It is probed for another ID, which may have a thousand names that nobody answers for.
            self._names.share(discovery_id, target.host)
            return
        watched = self._before.pop(target, None)
        if watched is None:
            watched = _Watched(self._clock.seconds())
            self.states["unknown"] += 1
        self._watched[target] = watched
        if watched.is_busy or watched.due > self._clock.seconds():
            return
        if target.is_ip and not self._allowed(target.host):
            # Nothing to wait for a turn for: whoever registers such must not slow down others.
            self._hold(watched, "not_allowed", None)
            return
        if target.is_ip:
            await self._wait_for_turn()
        watched.is_busy = True
        probe = Deferred.fromCoroutine(self._probe(target, watched, discovery_id))
        self._probes.add(probe)
        probe.addBoth(lambda _: self._end(probe, watched))

    async def _wait_for_turn(self) -> None:
        """Wait until one more probe is allowed."""
        now = self._clock.seconds()
        # Timers ring late: what was missed by that is made up for, and no more than that.
        begins = max(self._next, now - _LATENESS)
        self._next = begins + self._gap
        if begins > now:
            await self._wait(begins - now)
        await self._turn.acquire()

    def _end(self, probe: Deferred[None], watched: _Watched) -> None:
        watched.is_busy = False
        self._probes.discard(probe)

    async def _probe(self, target: ProbeTarget, watched: _Watched, discovery_id: str) -> None:
        try:
            outcome = await self._outcome(target, watched.standing, discovery_id)
        except CancelledError:
            return
        except Exception:
            self._log.failure("a probe failed", target=str(target))
            watched.due = self._clock.seconds() + self._interval
            return
        if outcome is None:
            return
        self.outcomes[outcome] += 1
        now = self._clock.seconds()
        if outcome == "not_allowed":
            self._hold(watched, "not_allowed", None)
            watched.due = now + self._interval * self._jitter()
            return
        standing = next_state(watched.standing, outcome, now)
        self._say(target, watched.standing, standing)
        self._hold(watched, _state(standing), standing)
        watched.due = now + self._interval * pauses(standing) * self._jitter()

    async def _outcome(self, target: ProbeTarget, before: ProbeState | None, discovery_id: str) -> Met | None:
        """What is met; None if its name has to be asked for once more, in the next round."""
        if target.is_ip:
            return await self._knocked(target, [target.host])
        found = (await self._names.addresses(discovery_id, [target.host]))[target.host]
        if not found.ips:
            return "unresolved" if found.is_settled else None
        if not self._allowed.all(found.ips):
            return "not_allowed"
        # Not before its name is known: a thousand that nobody answers for would take all turns.
        await self._wait_for_turn()
        met = await self._knocked(target, found.ips)
        # The resolver may be slow. But nobody at an address that no look-up has given since the
        # probe before says nothing of the node, which may be elsewhere by now.
        is_sure = found.is_fresh or (before is not None and found.at >= before.checked)
        return met if is_sure or met in ALIVE else "unresolved"

    async def _knocked(self, target: ProbeTarget, ips: Sequence[str]) -> Outcome:
        """What is met at these addresses; ends the turn."""
        outcome: Outcome = "no_answer"
        try:
            for ip in ips[:MOST_ADDRESSES]:
                outcome = await self._knock(target, ip)
                if outcome in ALIVE:
                    break
        finally:
            self._turn.release()
        return outcome

    def _find(self, target: ProbeTarget | None) -> _Watched | None:
        if target is None:
            return None
        return self._watched.get(target) or self._before.get(target)

    def _hold(self, watched: _Watched, state: State, standing: ProbeState | None) -> None:
        self.states[watched.state] -= 1
        self.states[state] += 1
        watched.state, watched.standing = state, standing

    def _say(self, target: ProbeTarget, before: ProbeState | None, now: ProbeState) -> None:
        was_down = before is not None and before.is_up is False
        if was_down == (now.is_up is False):
            return
        event = "a node is down"
        if was_down:
            event = "a node that was down does not resolve" if now.is_unresolved else "a node is up again"
        self._log.info(event, target=str(target), outcome=now.outcome)

    async def _wait(self, seconds: float) -> None:
        clock: Any = self._clock
        await deferLater(clock, seconds)


def _state(standing: ProbeState) -> State:
    if standing.is_up is None:
        return "unresolved" if standing.is_unresolved else "unknown"
    if not standing.is_up:
        return "down"
    return "not_ready" if standing.outcome == "not_ready" else "up"
