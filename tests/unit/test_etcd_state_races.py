"""News of the store that arrive while a grant waits for its lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.backends.etcd.messages import Range
from rqdisco.core.errors import Frozen, Ownerless
from rqdisco.core.records import Node
from tests.support.etcd.daemon import Backend, Cluster, opened
from tests.support.etcd.memory import DELIVER, Fate, Sent

T = TypeVar("T")
NODE = Node(addr="10.0.0.1:4001")


def slow_leases(sent: Sent) -> Fate:
    return Fate(arrives=(0.5,)) if sent.path == "/v3/lease/grant" else DELIVER


def start(coroutine: Awaitable[T]) -> Deferred[T]:
    async def run() -> T:
        return await coroutine

    return Deferred.fromCoroutine(run())


def now(deferred: Deferred[T]) -> T:
    results: list[T] = []
    deferred.addCallback(results.append)
    assert results
    return results[0]


def failure_of(deferred: Deferred[T]) -> type[BaseException] | None:
    failed: list[Failure] = []
    deferred.addErrback(failed.append)
    return failed[0].type if failed else None


def learn_state(backend: Backend) -> None:
    """Read the state of the store, as the monitor does every second."""
    found = now(start(backend.client.range(Range(key=backend.keys.meta))))
    backend.state.learn(found.kvs[0])


async def freeze(operator: Backend) -> None:
    await operator.state.freeze("it is migrated")


async def raise_epoch(operator: Backend) -> None:
    await operator.state.raise_epoch(0)


@pytest.mark.parametrize(("change", "error"), [(freeze, Frozen), (raise_epoch, Ownerless)])
def test_nothing_is_granted_once_the_store_was_frozen_or_restored_although_the_daemon_knows_it_meanwhile(
    change: Callable[[Backend], Awaitable[None]], error: type[Exception]
) -> None:
    cluster = Cluster(Clock())
    backend, operator = opened(cluster, 1), opened(cluster, 2)
    discovery_id = now(start(backend.directory.create())).id
    backend.transport.plan = slow_leases
    registering = start(backend.directory.register(discovery_id, NODE, None))
    now(start(change(operator)))
    learn_state(backend)
    for _ in range(8):
        cluster.clock.advance(0.5)
    assert failure_of(registering) is error
    record = now(start(operator.directory.inspect(discovery_id)))
    assert record.grant is None


def test_no_id_is_created_once_the_store_was_frozen_although_the_daemon_knows_it_meanwhile() -> None:
    cluster = Cluster(Clock())
    backend, operator = opened(cluster, 1, unused_seconds=3600.0), opened(cluster, 2)
    backend.transport.plan = slow_leases
    creating = start(backend.directory.create())
    now(start(freeze(operator)))
    learn_state(backend)
    for _ in range(8):
        cluster.clock.advance(0.5)
    assert failure_of(creating) is Frozen
    assert now(start(operator.directory.count())) == 0
