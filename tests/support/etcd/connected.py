"""The client of etcd over sockets, and the events of its watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.iweb import IPolicyForHTTPS

from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import EtcdFailure
from rqdisco.backends.etcd.messages import Range, Txn, WatchResponse
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.etcd.transport.connections import PooledTransport
from rqdisco.backends.etcd.transport.streams import AgentStreams, stream_agent
from rqdisco.http_client.network import Network

PATIENCE = 20.0


class Connected:
    """A client over sockets."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        credentials: Callable[[], Credentials] | None = None,
        policy: IPolicyForHTTPS | None = None,
    ) -> None:
        from twisted.internet import reactor

        self.clock: Any = reactor
        self.counts = EtcdCounts()
        self.noticed: list[str] = []
        network = Network(reactor, policy)
        self.transport = PooledTransport(network, self.clock)
        self.client = EtcdClient(
            ClientConfig(endpoints, credentials),
            self.transport,
            AgentStreams(stream_agent(reactor, network), self.clock),
            self.clock,
            RevisionGuard(Seen(), self.noticed.append),
            self.counts,
        )

    async def __aenter__(self) -> Connected:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.close()
        # Connections that are aborted end in the reactor's next turn.
        await deferLater(self.clock, 0)

    async def failure(self, request: Range | Txn, seconds: float = 2.0) -> EtcdFailure:
        """Return the failure of a request."""
        try:
            if isinstance(request, Txn):
                await self.client.txn(request, seconds)
            else:
                await self.client.range(request, seconds)
        except EtcdFailure as error:
            return error
        raise AssertionError("it succeeded")


class Events:
    """Collects the events of a watch, which a test can await."""

    def __init__(self, clock: Any) -> None:
        self.responses: list[WatchResponse] = []
        self._clock = clock
        self._awaited: tuple[Callable[[], bool], Deferred[None]] | None = None

    def __call__(self, response: WatchResponse) -> None:
        self.responses.append(response)
        if self._awaited is not None and self._awaited[0]():
            awaited, self._awaited = self._awaited[1], None
            awaited.callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for responses that meet a condition."""
        if not condition():
            awaited: Deferred[None] = Deferred()
            self._awaited = condition, awaited
            await awaited.addTimeout(PATIENCE, self._clock)

    @property
    def keys(self) -> list[tuple[int, str, bytes]]:
        """The watch, kind and key of each event."""
        return [(each.watch_id, event.type, event.kv.key) for each in self.responses for event in each.events]
