"""The network of gossip.py with the real HTTP and the real seals between the daemons."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.transport.http_link import HTTPLink, Keys
from rqdisco.backends.gossip.transport.resource import PeerResource
from tests.support.gossip import DirectNetwork
from tests.support.peer_links import Wire, ring


class SealedNetwork(DirectNetwork):
    """Carries messages of daemons by HTTP in memory. It has no faults."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._keys = Keys(ring(1))
        self._wires: dict[str, Wire] = {}

    def link(self, sender: str) -> Callable[[str], Any]:
        random = Random(sender).randbytes
        return lambda url: HTTPLink(url, self._wire(url), self._keys, random)

    def _wire(self, url: str) -> Wire:
        if url not in self._wires:
            name = url.removeprefix("http://")
            resource = PeerResource(_Handler(self, name), self._keys, self.clock, Random(name).randbytes)
            self._wires[url] = Wire(resource, self.clock)
        return self._wires[url]


class _Handler:
    """The daemon of a name, which starts later than the links that lead to it."""

    def __init__(self, network: DirectNetwork, name: str) -> None:
        self._network = network
        self._name = name

    def greet(self, hello: bytes) -> Deferred[tuple[str, bytes]]:
        return self._network.daemons[self._name].backend.driver.greet(hello)

    def serve(self, session: str, verb: str, body: bytes) -> Deferred[bytes]:
        return self._network.daemons[self._name].backend.driver.serve(session, verb, body)
