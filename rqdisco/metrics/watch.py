"""All that is counted in one daemon, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import MultiService, Service
from twisted.internet.interfaces import IReactorTime

from rqdisco.metrics import sources
from rqdisco.metrics.census import Census
from rqdisco.metrics.page import MetricsPage
from rqdisco.metrics.sources import Source
from rqdisco.metrics.stalls import LoopWatch
from rqdisco.observability.counts import DNSCounts, Histogram, LookUpCounts, RequestCounts
from rqdisco.observability.events import OutcomeCounts
from rqdisco.observability.waiting import WaitingClaims
from rqdisco.store import Store
from rqdisco.tally import Tally


class Watch(MultiService):
    """The counts that the parts of a daemon keep, and what keeps up those that need it while it runs."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self.requests = RequestCounts()
        self.outcomes = OutcomeCounts()
        self.dns = DNSCounts()
        self.look_ups = {"dns": LookUpCounts(), "probes": LookUpCounts()}
        self.syncs = Histogram()
        loop = LoopWatch(clock)
        loop.setServiceParent(self)
        self.page = MetricsPage([sources.build, sources.loop(loop.late), sources.outcomes(self.outcomes)])

    def keep(self, service: Service) -> None:
        """Have a service run as long as this one."""
        service.setServiceParent(self)

    def show(self, source: Source) -> None:
        """Have one more source on the page."""
        self.page.sources.append(source)

    def count_all(self, store: Store, is_orphaned: Callable[[str], bool], claims: WaitingClaims) -> None:
        """Keep count of what a store holds, and of `claims` in it; to be called before anything changes."""
        store.tally = tally = Tally(list(store.values()), store.ids(), claims.found)
        Census(self._clock, tally).setServiceParent(self)
        self.keep(claims)
        self.show(sources.holdings(store, tally, is_orphaned))
        self.show(sources.claims(claims))
