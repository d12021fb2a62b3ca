"""Builds the backend of a daemon without peers, and the services beside any backend.

The rest of the daemon sees a `Backend` either way; `wiring.gossip` builds the one with peers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from twisted.application.service import Service

from rqdisco.backends.environment import Environment
from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.expiry_sweep import ExpirySweeper, OwnIDs
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.directory import Directory
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.http.api.admin import ClusterAdmin
from rqdisco.http.server.interfaces import Application
from rqdisco.service.config import Config
from rqdisco.service.system import System
from rqdisco.service.wiring.storage import Storage
from rqdisco.telemetry.events import Events
from rqdisco.telemetry.metrics import MetricSource

if TYPE_CHECKING:
    # Not loaded without peers.
    from rqdisco.backends.gossip.report import PeerReport

_DAY_MS = 24 * 60 * 60 * 1000


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend, as the rest of the daemon sees it.

    `directory` answers the APIs. `local` decides about the IDs this daemon owns. `watermarks` tell
    which IDs have expired; `may_expire` reports whether this daemon may expire IDs of its own now.
    `is_ownerless` reports whether the owner of an ID, given by its incarnation, is gone for good.
    `peers` is None for a single daemon.
    """

    directory: Directory
    local: SingleDirectory
    watermarks: ExpiryWatermarks
    may_expire: Callable[[], bool]
    is_ownerless: Callable[[str], bool]
    peers: PeerParts | None = None


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


def build_single_backend(config: Config, system: System, storage: Storage) -> Backend:
    """Build the backend of a daemon without peers."""
    local = SingleDirectory(
        storage.store,
        storage.journal,
        storage.incarnation,
        Environment(now=storage.now, wall_us=system.wall_us, random=system.random),
        config.limits,
        metadata=storage.metadata,
    )
    return Backend(
        directory=local,
        local=local,
        watermarks=ExpiryWatermarks(storage.metadata),
        may_expire=lambda: local.frozen is None,
        is_ownerless=lambda owner: owner != storage.incarnation,
    )


def build_leader_monitor(system: System, storage: Storage, events: Events) -> LeaderMonitor:
    """Build the service that detects two clusters under one ID."""
    leaders = LeaderMonitor(system.reactor, events)
    storage.store.on_settled.append(leaders.settled)
    return leaders


def build_expiry_sweeper(
    unused_days: float | None, system: System, storage: Storage, backend: Backend, events: Events
) -> ExpirySweeper:
    """Build the service that deletes expired IDs. It expires IDs of this daemon only if
    `unused_days` is set.
    """
    ages = None
    if unused_days is not None:
        ages = VersionAges(storage.incarnation, int(unused_days * _DAY_MS), storage.metadata)
    return ExpirySweeper(
        system.reactor,
        storage.store,
        storage.journal,
        backend.watermarks,
        events,
        OwnIDs(
            owner=storage.incarnation,
            now=storage.now,
            version_ages=ages,
            may_expire=backend.may_expire,
            has_pending_grant=backend.local.has_pending_grant,
        ),
    )
