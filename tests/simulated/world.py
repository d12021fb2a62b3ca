"""One run: daemons, the nodes of a few clusters that use them, an operator, faults; and the
invariants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel

from rqdisco.backends.gossip.assembly import GossipBackend
from tests.simulated.clients import Clients
from tests.simulated.faults import EXPIRY, FAULTS, Faults
from tests.simulated.hosts import Host
from tests.simulated.judge import Judge
from tests.simulated.network import Net
from tests.simulated.nodes import SimNode
from tests.simulated.operator import Operator
from tests.simulated.timeline import Timeline, Trace
from tests.support.logs import observed_by

FAULTY_SECONDS = 90.0
QUIET_SECONDS = 110.0
# The last requests reach every disk within this time.
UNREACHABLE_SECONDS = 10.0
WINDOW = 30.0


@dataclass
class Result:
    """The result of a run."""

    seed: int
    violations: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> set[str]:
        """Return the violations, and the excuses with their reasons, by their first words."""
        return {each.split(" ")[1] for each in self.violations} | {each.split(":")[0] for each in self.excused}

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]


class World:
    """Everything of one run; `faults` are the possible ones."""

    def __init__(
        self,
        seed: int,
        daemons: int = 3,
        faults: tuple[str, ...] = FAULTS,
        make: Callable[..., GossipBackend] = GossipBackend,
        window: float = WINDOW,
    ) -> None:
        self.random = Random(f"world {seed}")
        self.timeline = Timeline()
        self.trace = Trace(self.timeline)
        self.window = window
        self.result = Result(seed)
        self.net = Net(self.timeline, Random(f"net {seed}"))
        names = "abcde"[:daemons]
        after = dict(zip(names, names[1:] + names[:1], strict=True))
        self.hosts = [
            Host(self.net, self.trace, name, (f"http://{after[name]}",), Random(f"{name} {seed}"), make)
            for name in names
        ]
        self.nodes: dict[tuple[str, str], SimNode] = {}
        self.unused_seconds: float | None = None
        self.report_seconds = self.random.choice((10, 300))
        self.judge = Judge(self)
        self.clients = Clients(self)
        self.operator = Operator(self)
        self.faults = Faults(self, faults)
        # Random numbers for unused IDs change nothing in runs without them.
        self.idle_random = Random(f"idle {seed}")
        # Nor do random numbers for elections.
        self.raft_random = Random(f"raft {seed}")
        if self.may(EXPIRY):
            self.unused_seconds = self.idle_random.choice((6.0, 15.0, 40.0))
            for host in self.hosts:
                host.unused_seconds = self.unused_seconds

    @property
    def now(self) -> float:
        return self.timeline.now

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.timeline, seconds)

    def may(self, fault: str) -> bool:
        """Report whether a kind of fault may happen in this run."""
        return fault in self.faults.kinds

    def some_host(self) -> Host | None:
        """Return a daemon that a node is near to, None if it uses any."""
        return self.random.choice((None, *self.hosts))

    def failed(self, failure: Any) -> None:
        self.judge.violate(f"the simulation failed: {failure.getTraceback()}")

    def count(self, what: str) -> None:
        self.result.counts[what] = self.result.counts.get(what, 0) + 1

    def run(self) -> Result:
        """Run it. Failures that the daemons log are violations."""
        with observed_by(self._watch_log):
            return self._run()

    def _watch_log(self, event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self.trace.log(str(event.get("log_format")).format(**{**event, "log_failure": ""}))
        if "log_failure" in event:
            self.judge.violate(f"a daemon failed: {event['log_failure'].getTraceback()}")
        elif "discovery_id" in event and "conflicting records" in str(event.get("log_format")):
            self.judge.clash(event["discovery_id"])

    def _run(self) -> Result:
        for host in self.hosts:
            host.start()
        self.timeline.run_until(5)
        self.operator.begin()
        end = self.now + FAULTY_SECONDS
        self.faults.plan(end)
        while self.now < end:
            self.timeline.run_until(self.now + 2)
            self.judge.look()
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
                host.boot.backend.peers.stopService()
                host.crash("kill")
        self.result.trace = self.trace.lines
        return self.result
