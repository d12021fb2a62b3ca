"""Joins the parts of this backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd.batch_queue import Soon
from rqdisco.backends.etcd.batches import Batches, at_once
from rqdisco.backends.etcd.client import EtcdClient
from rqdisco.backends.etcd.directory import EtcdDirectory
from rqdisco.backends.etcd.grants import ANSWER_LEASE_SECONDS, GrantWriter
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.leases import SharedLeases
from rqdisco.backends.etcd.names import CachedNames
from rqdisco.backends.etcd.record_store import RecordStore
from rqdisco.backends.etcd.record_writer import EtcdParts, Observer
from rqdisco.backends.etcd.revisions import RevisionGuard
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.backends.etcd.watch_hub import WatchHub
from rqdisco.backends.limits import Limits
from rqdisco.core.errors import EtcdUnavailable
from rqdisco.core.transitions import OWNER_RETRY_WINDOW_MS

# A read that takes longer is tried again by its client.
_READ_SECONDS = 3.0
# One try to learn the outcome of a write; `Batches` then tries again.
_WRITE_SECONDS = 2.0
# IDs that expire in the same hundredth of their time share a lease, but not those of more than an
# hour.
_UNUSED_STEPS = 100
_UNUSED_REUSE_SECONDS = 3600.0


class BackendConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of the backend. `prefix` begins all keys and ends with a slash; `machine`
    names the daemon's machine in records. An ID without a node expires after `unused_seconds`; DNS
    serves answers that are stale by up to `stale_seconds`.
    """

    prefix: str
    limits: Limits
    machine: str
    unused_seconds: float | None = None
    stale_seconds: float = 0.0


class BackendContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of the daemon that the backend uses. `count` returns the number of IDs when they were last
    counted, None before; `write_objection` the error of all writes while etcd has an alarm;
    `jitter` a factor around 1; `uptime` seconds, with those in which the machine was suspended.
    `soon` calls a function after everything that has arrived is handled.
    """

    client: EtcdClient
    guard: RevisionGuard
    clock: IReactorTime
    uptime: Callable[[], float]
    environment: Environment
    jitter: Callable[[], float]
    count: Callable[[], int | None]
    write_objection: Callable[[], EtcdUnavailable | None]
    observer: Observer
    soon: Soon = at_once


class EtcdBackend:
    """The directory and its parts. `names` answers DNS."""

    def __init__(self, config: BackendConfig, context: BackendContext) -> None:
        client, clock, uptime = context.client, context.clock, context.uptime
        self._random = context.environment.random
        self.keys = EtcdKeys(config.prefix)
        self.state = StoreState(self.keys, context.guard, client, context.write_objection)
        self.batches = Batches(
            partial(client.read, seconds=_READ_SECONDS),
            partial(client.txn, seconds=_WRITE_SECONDS),
            clock,
            context.soon,
        )
        self._store = store = RecordStore(
            self.keys, self.batches, self.state, clock, context.environment.wall_us() // 1000
        )
        retry_seconds = config.limits.retry_window_ms // 1000
        unused = None
        if config.unused_seconds is not None:
            reuse = min(config.unused_seconds / _UNUSED_STEPS, _UNUSED_REUSE_SECONDS)
            unused = SharedLeases(client, uptime, int(config.unused_seconds), reuse)
        self.grants = GrantWriter(
            store,
            self.state,
            clock,
            SharedLeases(client, uptime, ANSWER_LEASE_SECONDS),
            lambda: context.environment.random(8).hex(),
        )
        self.watches = WatchHub(client, self.keys, clock, context.jitter)
        self.directory = EtcdDirectory(EtcdParts(
            store=store,
            state=self.state,
            grants=self.grants,
            retry_windows=SharedLeases(client, uptime, retry_seconds) if retry_seconds else None,
            # At least as long as the window, although a lease may be a second old already (R5c).
            claim_windows=SharedLeases(client, uptime, OWNER_RETRY_WINDOW_MS // 1000 + 1),
            unused=unused,
            watches=self.watches,
            environment=context.environment,
            clock=clock,
            jitter=context.jitter,
            limits=config.limits,
            machine=config.machine,
            count=context.count,
            observer=context.observer,
        ))  # fmt: skip
        self.names = CachedNames(self.directory, clock, config.stale_seconds)

    async def open(self, verify: Callable[[], Awaitable[None]] | None = None) -> None:
        """Read the state of the store, and create it in an empty one. Nothing is decided before
        `verify` returns. Raises what it raises; EtcdFailure, Malformed, UnknownFormat.
        """
        await self.state.open(self._random, verify)

    def stop(self) -> Deferred[None]:
        """Fire once every grant is answered or revoked."""
        self.watches.stop()
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        await self.grants.finish()
        self._store.close()
