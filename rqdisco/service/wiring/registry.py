"""All that is counted in one daemon, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import MultiService, Service
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.claim_monitor import ClaimMonitor
from rqdisco.backends.metrics import claim_metrics
from rqdisco.http.api.metrics import MetricsPage
from rqdisco.storage.initial_count import InitialCount
from rqdisco.storage.memory import Store
from rqdisco.storage.metrics import record_metrics
from rqdisco.storage.node_counter import NodeCounter
from rqdisco.telemetry.counters import DNSCounts, Histogram, LookUpCounts, RequestCounts
from rqdisco.telemetry.events import OutcomeCounts
from rqdisco.telemetry.metrics import Source, build_metrics, outcome_metrics, reactor_metrics
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor


class MetricsRegistry(MultiService):
    """The counts that the parts of a daemon keep, and what keeps up those that need it while it
    runs.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self.requests = RequestCounts()
        self.outcomes = OutcomeCounts()
        self.dns = DNSCounts()
        self.look_ups = {"dns": LookUpCounts(), "probes": LookUpCounts()}
        self.syncs = Histogram()
        loop = ReactorDelayMonitor(clock)
        loop.setServiceParent(self)
        self.page = MetricsPage([build_metrics, reactor_metrics(loop.late), outcome_metrics(self.outcomes)])

    def keep(self, service: Service) -> None:
        """Have a service run as long as this one."""
        service.setServiceParent(self)

    def show(self, source: Source) -> None:
        """Have one more source on the page."""
        self.page.sources.append(source)

    def count_all(self, store: Store, is_ownerless: Callable[[str], bool], claims: ClaimMonitor) -> None:
        """Keep count of what a store holds, and of `claims` in it; to be called before anything
        changes.
        """
        store.node_counter = node_counter = NodeCounter(list(store.values()), store.ids(), claims.found)
        InitialCount(self._clock, node_counter).setServiceParent(self)
        self.keep(claims)
        self.show(record_metrics(store, node_counter, is_ownerless))
        self.show(claim_metrics(claims))
