"""A backend, as the rest of the daemon sees it; `stored` and `etcd` build one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.application.service import Service

from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.core.directory import Directory, Names
from rqdisco.http.api.admin import ClusterAdmin
from rqdisco.http.server.interfaces import Application
from rqdisco.storage.backup import Backups
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.events import Events
from rqdisco.telemetry.health import DaemonHealth
from rqdisco.telemetry.metrics import MetricSource

if TYPE_CHECKING:
    # Not loaded where they are not used.
    from rqdisco.backends.etcd.monitor import EtcdMonitor
    from rqdisco.backends.gossip.admin import PeerReport


async def _no_check() -> None:
    """Do nothing: a backend that was built can be used."""


class PeerParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that only a backend with peers has.

    `service` keeps in contact with peers. `report` describes them to health checks and the status
    page, `metrics` to `/metrics`. `admin` answers the operator API. `resource` answers peers.
    `reload_keys` reads the key file again.
    """

    service: Service
    report: PeerReport
    admin: ClusterAdmin
    metrics: MetricSource
    resource: Application
    reload_keys: Callable[[], None]


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend, as the rest of the daemon sees it.

    `directory` answers the APIs, `names` DNS. `count_ids` and `count_nodes` return numbers for
    people, None while they are unknown; there is no `count_nodes` where nodes are not counted.
    `service` starts before the daemon is ready; when it stops, no request is in progress, and it
    makes durable what was acknowledged. `check` waits until the backend can be used, and raises
    CannotStart if it cannot. `background` are services that stop after `service`. `disk` and `etcd`
    are shown on the status page. `backups` is None where another engine stores the records, `peers`
    for a daemon without peers.
    """

    directory: Directory
    names: Names
    health: DaemonHealth
    leaders: LeaderMonitor
    count_ids: Callable[[], int | None]
    count_nodes: Callable[[], int | None] | None
    metrics: Sequence[MetricSource]
    service: Service
    background: Sequence[Service]
    check: Callable[[], Coroutine[Any, Any, None]] = _no_check
    disk: tuple[Journal, Compactor] | None = None
    etcd: EtcdMonitor | None = None
    backups: Backups | None = None
    peers: PeerParts | None = None


class OpenedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend whose files are open. `build` makes it, once the audit log exists, which receives its
    events.

    `incarnation` names the daemon in the audit log. With etcd it is the name of the machine, which
    daemons on one machine share.
    """

    incarnation: str
    build: Callable[[Events], Backend]
