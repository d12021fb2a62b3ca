"""The checks of etcd when a daemon starts: it answers, its version can be used, and the store under
the prefix can be opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.etcd.failures import AuthFailed, EtcdFailure
from rqdisco.backends.etcd.messages import Range, RangeResponse, Status
from rqdisco.backends.etcd.meta import decode_meta
from rqdisco.backends.etcd.versions import objection
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import DamagedState, EtcdAccessDenied, EtcdUnusable, UnknownFormat
from rqdisco.coroutines import gather

RETRY_SECONDS = 1.0
# An election takes a second or two.
_PATIENCE_SECONDS = 3.0

_log = Logger()


# Checks a store that exists, before anything is decided in it. Raises a subclass of CannotStart.
Verify = Callable[[], Awaitable[None]]


class CheckedClient(Protocol):
    """The part of `EtcdClient` that the checks need."""

    async def range(self, request: Range, seconds: float = ...) -> RangeResponse: ...

    async def range_at(self, endpoint: str, request: Range) -> RangeResponse: ...

    async def status(self, endpoint: str) -> Status: ...


async def check(
    client: CheckedClient, endpoints: Sequence[str], meta: bytes, open_store: Callable[[Verify], Awaitable[None]]
) -> None:
    """Check etcd once, then open the store, whose state is at the key `meta`.

    Raises EtcdFailure if another attempt may succeed, else kinds of CannotStart.
    """
    try:
        # Fetches the token, and reads from a quorum.
        await client.range(Range(key=meta, keys_only=True), _PATIENCE_SECONDS)
        await _check_versions(client, endpoints)
        await open_store(partial(_check_stores, client, endpoints, meta))
    except AuthFailed as failure:
        raise EtcdAccessDenied(str(failure)) from None
    except Malformed as error:
        raise DamagedState(str(error)) from None


async def wait_for_etcd(
    attempt: Callable[[], Awaitable[None]], clock: IReactorTime, seconds: float, failed: Callable[[str], None]
) -> None:
    """Make attempts until one succeeds, for `seconds`; call `failed` with the reason of each that
    does not. Raises EtcdUnusable, and what `attempt` raises but for EtcdFailure.
    """
    deadline = clock.seconds() + seconds
    logged: str | None = None
    while True:
        try:
            await attempt()
            return
        except EtcdFailure as failure:
            reason = str(failure)
        failed(reason)
        if clock.seconds() + RETRY_SECONDS > deadline:
            raise EtcdUnusable(reason)
        if reason != logged:
            _log.warn("waiting for etcd", reason=reason)
            logged = reason
        await deferLater(clock, RETRY_SECONDS)


async def _check_versions(client: CheckedClient, endpoints: Sequence[str]) -> None:
    """Raise EtcdUnusable if a member that answers runs a version that cannot be used."""
    for why in await gather(_objection_to(client, each) for each in endpoints):
        if why is not None:
            raise EtcdUnusable(why)


async def _objection_to(client: CheckedClient, endpoint: str) -> str | None:
    try:
        status = await client.status(endpoint)
    except EtcdFailure:
        # Others answer; this one is checked when it does.
        return None
    why = objection(status.version)
    return None if why is None else f"{endpoint}: {why}"


async def _check_stores(client: CheckedClient, endpoints: Sequence[str], meta: bytes) -> None:
    """Raise EtcdUnusable if two members that answer are not of one cluster: daemons that use one of
    them each would grant the same ID twice. Clusters of one member that were made alike have the
    same ID, but not the same store.
    """
    stores = await gather(_store_at(client, each, meta) for each in endpoints)
    answered = [(at, store) for at, store in zip(endpoints, stores, strict=True) if store]
    for endpoint, store in answered:
        if store != answered[0][1]:
            raise EtcdUnusable(f"{answered[0][0]} and {endpoint} are not members of one etcd cluster")


async def _store_at(client: CheckedClient, endpoint: str, meta: bytes) -> tuple[int, str | None] | None:
    """Return the IDs of the cluster and the store at an endpoint, None if it does not answer."""
    try:
        found = await client.range_at(endpoint, Range(key=meta))
        store = decode_meta(found.kvs[0].value, meta.decode()).store_id if found.kvs else None
    except (Malformed, UnknownFormat):
        return found.header.cluster_id, None
    except EtcdFailure:
        return None
    return found.header.cluster_id, store
