"""The parts of a daemon that its HTTP APIs use."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.core.directory import Directory
from rqdisco.core.verdicts import Verdict
from rqdisco.core.views import View
from rqdisco.http.api.admin import ClusterAdmin
from rqdisco.http.api.metrics import MetricsPage
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.http.ui.daemon_status import StatusCollector
from rqdisco.probes.node_health import NodeHealth
from rqdisco.security.tokens import Access
from rqdisco.storage.backup import Backups
from rqdisco.telemetry.health import DaemonHealth


class HTTPLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's limits on requests.

    `max_body` is in bytes. `strict_addresses` refuses addresses that other machines can hardly
    reach; without it they are logged. `create_rate` is IDs a second for each client, 0 for no
    limit. `max_watchers` bounds the event streams of the daemon.
    """

    max_body: int
    strict_addresses: bool = False
    create_rate: float = 0.0
    max_watchers: int = 2000


class HTTPContext(msgspec.Struct, frozen=True, kw_only=True):
    """The collaborators that the HTTP APIs of one daemon share.

    `clock` is monotonic, `rest` runs a call after some seconds without expensive work, `wall_us`
    returns the wall clock in microseconds since 1970. `describe` returns the answer to `GET /`,
    `judge` the verdict on the cluster under an ID. With `access`, public listeners require tokens;
    the operator's listener never does. `cluster_admin` is None without peers, `backups` where another
    engine stores the records, `node_health` without probes, `zone` without DNS. `metrics` answers
    `GET /metrics` on the operator's listener, `status` is what `GET /status` shows. `is_local_only`
    reports whether no other machine can connect to the public listener.
    """

    directory: Directory
    clock: IReactorTime
    rest: Callable[[float, Callable[[], None]], object]
    wall_us: Callable[[], int]
    deadlines: Deadlines
    telemetry: RequestTelemetry
    health: DaemonHealth
    describe: Callable[[], ServiceDocument]
    limits: HTTPLimits
    judge: Callable[[View], Verdict]
    access: Access | None = None
    cluster_admin: ClusterAdmin | None = None
    backups: Backups | None = None
    node_health: NodeHealth | None = None
    leaders: LeaderMonitor | None = None
    metrics: MetricsPage | None = None
    status: StatusCollector | None = None
    zone: str | None = None
    is_local_only: Callable[[], bool] = lambda: False
