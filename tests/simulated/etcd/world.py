"""One run: stateless daemons over one etcd, the nodes of a few clusters that use them, an operator,
faults; and the invariants.
"""

from __future__ import annotations

from random import Random
from typing import Any

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
from tests.simulated.world import FAULTY_SECONDS, QUIET_SECONDS, UNREACHABLE_SECONDS, Result, World


def keep_all_rules(_: EtcdBackend) -> None:
    pass


class EtcdWorld(World):
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
        self.faults = EtcdFaults(self, faults)

    def some_host(self) -> Any:
        return self.random.choice((None, *self.hosts))

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
