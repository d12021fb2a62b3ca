"""One run: daemons, the nodes of a few clusters that use them, an operator, faults; and the
invariants.
"""

from __future__ import annotations

import hashlib
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted.logger import LogLevel

from rqdisco.backends.gossip.core.machine import Machine
from tests.simulated.choices import Choices
from tests.simulated.clients import Clients
from tests.simulated.faults import EXPIRY, FAULTS
from tests.simulated.hosts import Host
from tests.simulated.judge import Judge
from tests.simulated.network import PeerNet
from tests.simulated.nodes import SimNode
from tests.simulated.operator import Operator
from tests.simulated.peer_faults import PeerFaults
from tests.simulated.rests import Rests
from tests.simulated.schedule import FORMAT, VERSION, Header, Schedule
from tests.simulated.steps import Steps
from tests.simulated.tasks import Promise, spawn
from tests.simulated.timeline import EventHeap, Trace
from tests.support.logs import observed_by

FAULTY_SECONDS = 90.0
QUIET_SECONDS = 110.0
# The last requests reach every disk within this time.
UNREACHABLE_SECONDS = 10.0
WINDOW = 30.0
_LOOK_SECONDS = 2.0

Make = Callable[..., Machine]


@dataclass
class Result:
    """The result of a run."""

    seed: int
    violations: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    @property
    def violated(self) -> set[str]:
        """Return the violations, by their first words."""
        return {each.split(" ")[1] for each in self.violations}

    @property
    def kinds(self) -> set[str]:
        """Return the violations, and the excuses with their reasons, by their first words."""
        return self.violated | {each.split(":")[0] for each in self.excused}

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]


class AnyWorld(ABC):
    """The part of a world that nodes, operator and judge of every simulation need."""

    timeline: Any
    trace: Trace
    result: Result
    hosts: Any
    nodes: dict[tuple[str, str], SimNode]
    judge: Any
    clients: Any
    operator: Any
    faults: Any
    net: Any
    choices: Any
    ordinal: Any
    window = WINDOW
    unused_seconds: float | None = None
    report_seconds: int = 10

    @property
    def now(self) -> float:
        now: float = self.timeline.now
        return now

    @abstractmethod
    def sleep(self, seconds: float) -> Any:
        """Wait."""

    @abstractmethod
    def spawn(self, doing: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside all others."""

    @abstractmethod
    def draws(self, actor: str) -> Any:
        """Return the random numbers of somebody who acts."""

    @abstractmethod
    def raft_draws(self, cluster: Any) -> Any:
        """Return the random numbers of a cluster's elections."""

    def may(self, fault: str) -> bool:
        """Report whether a kind of fault may happen in this run."""
        return fault in self.faults.kinds

    def some_host(self, draws: Any) -> Any:
        """Return a daemon that a node is near to, None if it uses any."""
        return draws.choice((None, *self.hosts))

    def count(self, what: str) -> None:
        self.result.counts[what] = self.result.counts.get(what, 0) + 1


class World(AnyWorld):
    """Everything of one run of daemons that are peers; `faults` are the possible ones.

    It is drawn from a seed, or follows a schedule; `self.schedule` is what it did. `make` makes the
    machine of a daemon, `steps` gets each of its inputs with their effects.
    """

    def __init__(
        self,
        seed: int | Schedule,
        daemons: int = 3,
        faults: tuple[str, ...] = FAULTS,
        make: Make = Machine,
        *,
        window: float = WINDOW,
        as_bytes: bool = False,
        steps: Steps | None = None,
    ) -> None:
        recorded = seed if isinstance(seed, Schedule) else None
        header = _draw_header(seed, daemons, faults, window, as_bytes) if isinstance(seed, int) else seed.header
        self.schedule = Schedule(header)
        self.choices = Choices(self.schedule, recorded)
        self.timeline = EventHeap()
        self.resting: list[Rests] = []
        self._looks_soon = False
        self.trace = Trace(self.timeline)
        self.steps = steps
        if steps is not None:
            steps.clock, steps.trace = self.timeline, self.trace
        self.make = make
        self.window = header.window
        self.unused_seconds, self.report_seconds = header.unused_seconds, header.report_seconds
        self.result = Result(seed if isinstance(seed, int) else 0)
        self.net = PeerNet(self.timeline, self.choices, as_bytes=header.as_bytes)
        names = "abcde"[: header.daemons]
        after = dict(zip(names, names[1:] + names[:1], strict=True))
        self.hosts = [Host(self, name, (f"http://{after[name]}",)) for name in names]
        for host in self.hosts:
            host.unused_seconds = self.unused_seconds
        self.nodes = {}
        self._count = len(self.hosts)
        self._ordinals: dict[str, int] = {}
        self._new_ids = 0
        self.judge = Judge(self)
        self.clients = Clients(self)
        self.operator = Operator(self)
        scheduled = None if recorded is None else recorded.faults
        self.faults = PeerFaults(self, header.faults, scheduled, Random(f"faults {header.salt}"))

    def sleep(self, seconds: float) -> Promise:
        promise = Promise()
        self.timeline.callLater(seconds, promise.keep)
        return promise

    def spawn(self, doing: Coroutine[Any, Any, Any]) -> None:
        spawn(doing, self.failed)

    def draws(self, actor: str) -> Any:
        return self.choices.draws(actor)

    def raft_draws(self, cluster: Any) -> Any:
        return self.choices.draws(f"raft {cluster.seed}")

    def ordinal(self, key: str) -> int:
        """Return the place of an ID among those that were used."""
        return self._ordinals.setdefault(key, len(self._ordinals))

    def new_id(self) -> bytes:
        """Return the random bytes of a new ID."""
        self._new_ids += 1
        new: bytes = self.choices.random_bytes(f"id {self._new_ids}", 14)
        return new

    def failed(self, error: Exception) -> None:
        self.judge.violate(f"the simulation failed: {''.join(traceback.format_exception(error))}")

    def acts(self) -> None:
        """Something changes at a daemon, or may change at another one."""
        if self.resting:
            resting, self.resting = self.resting, []
            for each in resting:
                each.end_soon()

    @property
    def has_no_copy(self) -> bool:
        """Report whether no copy of a host runs."""
        return len(self.hosts) == self._count

    def look_soon(self) -> None:
        """Let the judge look at new versions."""
        if not self._looks_soon:
            self._looks_soon = True
            self.timeline.callLater(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looks_soon = False
        self.judge.look()

    def run(self) -> Result:
        """Run it. Failures that services of the daemons log are violations."""
        if self.unused_seconds is None:
            return self._run()
        with observed_by(self._watch_log):
            return self._run()

    def _watch_log(self, event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical) and "log_failure" in event:
            self.judge.violate(f"a daemon failed: {event['log_failure'].getTraceback()}")

    def _run(self) -> Result:
        for host in self.hosts:
            host.start()
        self.timeline.run_until(5)
        self.operator.begin()
        end = self.now + FAULTY_SECONDS
        self.faults.plan(end)
        self.timeline.run_until(end)
        self.faults.heal()
        self.timeline.run_until(self.now + 30)
        self.operator.forget_the_lost()
        self.timeline.run_until(self.now + QUIET_SECONDS)
        self.clients.are_unresponsive = True
        self.timeline.run_until(self.now + UNREACHABLE_SECONDS)
        self.judge.look()
        self.judge.judge()
        for host in self.hosts:
            if host.boot is not None:
                host.boot.stop()
                host.crash(is_power_cut=False, is_kept=True)
        self.result.trace = self.trace.lines
        return self.result


def _draw_header(seed: int, daemons: int, faults: tuple[str, ...], window: float, as_bytes: bool) -> Header:
    random = Random(f"world {seed}")
    unused_seconds = random.choice((6.0, 15.0, 40.0)) if EXPIRY in faults else None
    return Header(
        format=FORMAT,
        version=VERSION,
        salt=str(seed),
        daemons=daemons,
        faults=faults,
        report_seconds=Random(f"reports {seed}").choice((10, 300)),
        unused_seconds=unused_seconds,
        window=window,
        as_bytes=as_bytes,
    )
