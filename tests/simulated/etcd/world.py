"""One run: stateless daemons over one etcd, the nodes of a few clusters that use them, an operator,
faults; and the invariants.
"""

from __future__ import annotations

from collections.abc import Coroutine
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel

from rqdisco.backends.etcd.assembly import EtcdBackend
from rqdisco.backends.limits import Limits
from tests.simulated.etcd.clients import EtcdClients
from tests.simulated.etcd.faults import FAULTS, EtcdFaults
from tests.simulated.etcd.hosts import EtcdHost, Switch
from tests.simulated.etcd.judge import EtcdJudge
from tests.simulated.etcd.network import EtcdNet
from tests.simulated.etcd.operator import EtcdOperator
from tests.simulated.etcd.store import Store
from tests.simulated.etcd.watchers import Watchers
from tests.simulated.nodes import SimNode
from tests.simulated.timeline import Timeline, Trace
from tests.simulated.world import FAULTY_SECONDS, QUIET_SECONDS, UNREACHABLE_SECONDS, AnyWorld, Result
from tests.support.logs import observed_by


def keep_all_rules(_: EtcdBackend) -> None:
    pass


class EtcdWorld(AnyWorld):
    """Everything of one run; `switch` turns a rule off in each backend."""

    hosts: Any
    net: EtcdNet
    judge: EtcdJudge
    clients: EtcdClients
    operator: EtcdOperator
    faults: EtcdFaults

    def __init__(
        self, seed: int, daemons: int = 3, faults: tuple[str, ...] = FAULTS, switch: Switch = keep_all_rules
    ) -> None:
        self.random = Random(f"world {seed}")
        self.timeline = Timeline()
        self.trace = Trace(self.timeline)
        self.result = Result(seed)
        self.switch = switch
        self.raft_random = Random(f"raft {seed}")
        self.net = EtcdNet(self, self.timeline, Random(f"net {seed}"))
        self.store = Store(self, Random(f"store {seed}"))
        self.hosts = [EtcdHost(self, name, Random(f"{name} {seed}")) for name in "abcd"[:daemons]]
        # Random numbers for options change nothing else.
        limits = Random(f"limits {seed}").choice(
            (*[Limits()] * 8, Limits(retry_window_ms=0), Limits(visible_claims=True))
        )
        for host in self.hosts:
            host.limits = limits
        # The host of the command `rqdisco etcd restored`.
        self.command = EtcdHost(self, "command", Random(f"command {seed}"))
        self.nodes: dict[tuple[str, str], SimNode] = {}
        self.unused_seconds = None
        self.report_seconds = self.random.choice((10, 300))
        self.is_restored = self.was_unannounced = False
        self.judge = EtcdJudge(self)
        self.clients = EtcdClients(self)
        self.operator = EtcdOperator(self)
        self.watchers = Watchers(self)
        self.faults = EtcdFaults(self, faults, self.random)

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.timeline, seconds)

    def spawn(self, doing: Coroutine[Any, Any, Any]) -> None:
        Deferred.fromCoroutine(doing).addErrback(self.failed)

    def draws(self, actor: str) -> Random:
        return self.random

    def raft_draws(self, cluster: Any) -> Random:
        return self.raft_random

    def acts(self) -> None:
        """Nothing is left out here while nothing happens."""

    def failed(self, failure: Any) -> None:
        self.judge.violate(f"the simulation failed: {failure.getTraceback()}")

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
            self.judge.owners_clashed(event["discovery_id"])

    def _run(self) -> Result:
        for host in self.hosts:
            host.start()
        self.timeline.run_until(2)
        self.operator.begin()
        end = self.now + FAULTY_SECONDS
        self.faults.plan(end)
        self.timeline.run_until(end)
        self.faults.heal()
        self.timeline.run_until(self.now + 10)
        self.operator.announce_the_restore()
        self.timeline.run_until(self.now + QUIET_SECONDS)
        self.clients.are_unresponsive = True
        self.timeline.run_until(self.now + UNREACHABLE_SECONDS)
        self.judge.judge()
        for host in self.hosts:
            host.crash()
        self.result.trace = self.trace.lines
        return self.result
