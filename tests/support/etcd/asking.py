"""Requests of nodes to a backend over the model etcd."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from rqdisco.core.codec import decode_put
from rqdisco.core.directory import Removal
from rqdisco.core.records import Node, Put, Record, RegistrationOutcome
from tests.support.daemon import result
from tests.support.etcd.daemon import Backend

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"


def go(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns without time passing."""
    return result(Deferred.fromCoroutine(coroutine))


def create(backend: Backend) -> str:
    record: Record = go(backend.directory.create())
    return record.id


def register(backend: Backend, discovery_id: str, addr: str) -> Deferred[RegistrationOutcome]:
    """Register a node; fires with the answer."""
    return Deferred.fromCoroutine(backend.directory.register(discovery_id, Node(addr=addr), None))


def remove(backend: Backend, discovery_id: str, addr: str) -> Deferred[Removal]:
    """Remove a node; fires with the answer."""
    return Deferred.fromCoroutine(backend.directory.remove(discovery_id, addr))


def is_alone(registering: Deferred[RegistrationOutcome]) -> bool:
    """Report whether a node was told to bootstrap."""
    outcome: RegistrationOutcome = result(registering)
    return outcome.bootstrap is not None


def listed(backend: Backend, discovery_id: str) -> list[str]:
    """Return the addresses that a lookup answers."""
    return [node.addr for node in go(backend.directory.look_up(discovery_id)).nodes]


def put_by(addr: str) -> Put:
    """Return the leader key as the rqlited at `addr` puts it."""
    host = addr.partition(":")[0]
    return decode_put(b'{"id":"%b","api_addr":"http://%b","addr":"%b:4002"}' % tuple(
        each.encode() for each in (host, addr, host)
    ))  # fmt: skip
