"""Schedules the probes of all registered nodes, evenly and with bounded concurrency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol, cast, get_args

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger

from rqdisco.core.directory import Directory
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.records import Node
from rqdisco.probes.probe_state import ALIVE, NodeStatus, Outcome, ProbeState, backoff, next_state, node_status
from rqdisco.probes.resolution.host_names import HostNames
from rqdisco.probes.targets import AllowedAddresses, ProbeTarget, target_of

TargetState = Literal["unknown", "up", "not_ready", "down", "unresolved", "not_allowed"]
ProbeOutcome = Outcome | Literal["not_allowed"]

STATES: tuple[TargetState, ...] = get_args(TargetState)
OUTCOMES: tuple[ProbeOutcome, ...] = (*get_args(Outcome), "not_allowed")
MAX_CONCURRENT = 100
# Of a name; a node with more addresses is up if it responds at one of these.
MAX_ADDRESSES = 3
_ROUNDS_PER_INTERVAL = 5
# Visiting a node costs some 15 microseconds, and is useless where probes cannot keep up.
_VISITS_PER_PROBE = 10
_VISITS_AT_ONCE = 100
_MIN_ROUND_SECONDS = 0.2
_TIMER_LATENESS = 0.1


class Probe(Protocol):
    """Probe one address."""

    def __call__(self, target: ProbeTarget, ip: str) -> Awaitable[Outcome]:
        """Return the outcome, within seconds."""


class _Tracked(msgspec.Struct):
    """A target, when it is due, and whether a probe is running."""

    due: float
    state: TargetState = "unknown"
    probed: ProbeState | None = None
    is_busy: bool = False


class ProbeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between probes of a target, probes a second of all, and which addresses are
    probed.
    """

    interval: float
    rate: float
    allowed: AllowedAddresses


class ProbeScheduler(Service):
    """Probe each node of all IDs of `directory` every `interval` seconds, at most `rate` nodes per
    second. A node that stays down is probed up to ten times less often, and a node registered
    several times only once.

    A name is resolved first, and the checked addresses are connected to, so that a name cannot
    resolve differently afterwards. `jitter` returns numbers around 1.

    `states` counts targets by state and `outcomes` counts probes; `round_seconds` is the duration
    of the last round, None before the first has ended.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Directory,
        probe: Probe,
        names: HostNames,
        limits: ProbeLimits,
        clock: IReactorTime,
        jitter: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._probe_address = probe
        self._names = names
        self._allowed = limits.allowed
        self._clock = clock
        self._jitter = jitter
        self._interval = limits.interval
        self._gap = 1 / limits.rate
        self._visit_pause = _VISITS_AT_ONCE / _VISITS_PER_PROBE / limits.rate
        self._next_start = 0.0
        self._visits = 0
        self._slots = DeferredSemaphore(MAX_CONCURRENT)
        # Targets move from the previous round to this one when they are visited; those that remain
        # are no longer registered.
        self._current: dict[ProbeTarget, _Tracked] = {}
        self._previous: dict[ProbeTarget, _Tracked] = {}
        self._running_probes: set[Deferred[None]] = set()
        self._loop: Deferred[None] | None = None
        self.states: Counter[TargetState] = Counter()
        self.outcomes: Counter[ProbeOutcome] = Counter()
        self.round_seconds: float | None = None

    def startService(self) -> None:
        super().startService()
        self._loop = Deferred.fromCoroutine(self._run_rounds())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        ending = [each for each in (self._loop, *self._running_probes) if each is not None]
        for each in ending:
            each.cancel()
        return DeferredList(ending, consumeErrors=True).addCallback(lambda _: None)

    def status(self, node: Node) -> NodeStatus | None:
        tracked = self._find(target_of(node))
        if tracked is None or tracked.probed is None:
            return None
        return node_status(tracked.probed, self._clock.seconds())

    def on_registration(self, node: Node) -> None:
        tracked = self._find(target_of(node))
        if tracked is not None and tracked.probed is not None and tracked.probed.failures:
            self._set_state(tracked, "unknown", None)
            tracked.due = self._clock.seconds()

    async def _run_rounds(self) -> None:
        while self.running:
            start = self._clock.seconds()
            try:
                await self._run_round()
            except CancelledError:
                return
            except StoreUnavailable as error:
                self._log.debug("probe round ended early: {reason}", reason=error.reason)
            except Exception:
                self._log.failure("probe round failed")
            self.round_seconds = self._clock.seconds() - start
            pause = self._interval / _ROUNDS_PER_INTERVAL * self._jitter() - self.round_seconds
            try:
                await self._sleep(max(_MIN_ROUND_SECONDS, pause))
            except CancelledError:
                return

    async def _run_round(self) -> None:
        # The previous round may have ended early: keep the targets that it visited.
        self._previous |= self._current
        self._current = {}
        async for page in self._directory.records():
            for record in page:
                await self._count_visit()
                # Without nodes that no API shows, such as hidden claims.
                for node in self._directory.view(record).nodes:
                    await self._count_visit()
                    await self._visit(target_of(node), record.id)
        for target, tracked in self._previous.items():
            if tracked.is_busy:
                self._current[target] = tracked
            else:
                self.states[tracked.state] -= 1
        self._previous, self._current = self._current, {}

    async def _count_visit(self) -> None:
        """Yield to the reactor after every 100 visits."""
        self._visits += 1
        if self._visits % _VISITS_AT_ONCE == 0:
            await self._sleep(self._visit_pause)

    async def _visit(self, target: ProbeTarget | None, discovery_id: str) -> None:
        """Track a registered target, and start a probe if it is due."""
        if target is None:
            return
        if target in self._current:
            # The other ID that it is probed for may have a thousand names that do not resolve.
            self._names.share(discovery_id, target.host)
            return
        tracked = self._previous.pop(target, None)
        if tracked is None:
            tracked = _Tracked(self._clock.seconds())
            self.states["unknown"] += 1
        self._current[target] = tracked
        if tracked.is_busy or tracked.due > self._clock.seconds():
            return
        if target.is_ip and not self._allowed(target.host):
            # Without waiting for a slot, so that such registrations do not delay others.
            self._set_state(tracked, "not_allowed", None)
            return
        if target.is_ip:
            await self._acquire_slot()
        tracked.is_busy = True
        probe = Deferred.fromCoroutine(self._probe(target, tracked, discovery_id))
        self._running_probes.add(probe)
        probe.addBoth(lambda _: self._finish(probe, tracked))

    async def _acquire_slot(self) -> None:
        """Wait until another probe may start, by rate and by concurrency."""
        now = self._clock.seconds()
        # Make up for late timers, but for no other delay.
        start = max(self._next_start, now - _TIMER_LATENESS)
        self._next_start = start + self._gap
        if start > now:
            await self._sleep(start - now)
        await self._slots.acquire()

    def _finish(self, probe: Deferred[None], tracked: _Tracked) -> None:
        tracked.is_busy = False
        self._running_probes.discard(probe)

    async def _probe(self, target: ProbeTarget, tracked: _Tracked, discovery_id: str) -> None:
        try:
            outcome = await self._outcome(target, tracked.probed, discovery_id)
        except CancelledError:
            return
        except Exception:
            self._log.failure("probe failed", target=str(target))
            tracked.due = self._clock.seconds() + self._interval
            return
        if outcome is None:
            return
        self.outcomes[outcome] += 1
        now = self._clock.seconds()
        if outcome == "not_allowed":
            self._set_state(tracked, "not_allowed", None)
            tracked.due = now + self._interval * self._jitter()
            return
        probed = next_state(tracked.probed, outcome, now)
        self._log_change(target, tracked.probed, probed)
        self._set_state(tracked, _target_state(probed), probed)
        tracked.due = now + self._interval * backoff(probed) * self._jitter()

    async def _outcome(self, target: ProbeTarget, before: ProbeState | None, discovery_id: str) -> ProbeOutcome | None:
        """Probe a target; None if its name must be looked up again in the next round."""
        if target.is_ip:
            return await self._probe_addresses(target, [target.host])
        resolved = (await self._names.addresses(discovery_id, [target.host]))[target.host]
        if not resolved.ips:
            return "unresolved" if resolved.is_settled else None
        if not self._allowed.all(resolved.ips):
            return "not_allowed"
        # Only now: a thousand names that do not resolve would take all slots.
        await self._acquire_slot()
        outcome = await self._probe_addresses(target, resolved.ips)
        # The resolver may be slow. But a failure at addresses that no lookup has confirmed since
        # the previous probe says nothing about the node, which may have moved.
        is_current = resolved.is_fresh or (before is not None and resolved.at >= before.checked)
        return outcome if is_current or outcome in ALIVE else "unresolved"

    async def _probe_addresses(self, target: ProbeTarget, ips: Sequence[str]) -> Outcome:
        """Probe a target at these addresses until it responds, then release the slot."""
        outcome: Outcome = "no_answer"
        try:
            for ip in ips[:MAX_ADDRESSES]:
                outcome = await self._probe_address(target, ip)
                if outcome in ALIVE:
                    break
        finally:
            self._slots.release()
        return outcome

    def _find(self, target: ProbeTarget | None) -> _Tracked | None:
        if target is None:
            return None
        return self._current.get(target) or self._previous.get(target)

    def _set_state(self, tracked: _Tracked, state: TargetState, probed: ProbeState | None) -> None:
        self.states[tracked.state] -= 1
        self.states[state] += 1
        tracked.state, tracked.probed = state, probed

    def _log_change(self, target: ProbeTarget, before: ProbeState | None, after: ProbeState) -> None:
        was_down = before is not None and before.is_up is False
        if was_down == (after.is_up is False):
            return
        event = "node is down"
        if was_down:
            event = "node that was down does not resolve" if after.is_unresolved else "node is up again"
        self._log.info(event, target=str(target), outcome=after.outcome)

    async def _sleep(self, seconds: float) -> None:
        # deferLater takes any IReactorTime, but its annotation names implementations.
        await deferLater(cast("Clock", self._clock), seconds)


def _target_state(probed: ProbeState) -> TargetState:
    if probed.is_up is None:
        return "unresolved" if probed.is_unresolved else "unknown"
    if not probed.is_up:
        return "down"
    return "not_ready" if probed.outcome == "not_ready" else "up"
