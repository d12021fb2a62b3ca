"""The requests of clients, as commands of the machine."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.backends.gossip.core.inputs import Claim, Command, Create, Inspect, LookUp, Register, Remove, ReportLeader
from rqdisco.core.records import Node, Put


class Commands:
    """The requests of clients, by the names that they have in `core.directory.Directory`."""

    def __init__(self, new_id: Callable[[], bytes]) -> None:
        self._new_id = new_id

    def create(self) -> Command:
        return Create(self._new_id())

    def look_up(self, discovery_id: str) -> Command:
        return LookUp(discovery_id)

    def look_up_at_owner(self, discovery_id: str) -> Command:
        return LookUp(discovery_id, at_owner=True)

    def look_up_name(self, name: str) -> Command:
        return LookUp(name)

    def inspect(self, discovery_id: str) -> Command:
        return Inspect(discovery_id)

    def register(self, discovery_id: str, node: Node, host: str | None) -> Command:
        return Register(discovery_id, node, host)

    def remove(self, discovery_id: str, addr: str) -> Command:
        return Remove(discovery_id, addr)

    def claim(self, discovery_id: str, put: Put, host: str | None) -> Command:
        return Claim(discovery_id, put, host)

    def report(self, discovery_id: str, put: Put, host: str | None) -> Command:
        return ReportLeader(discovery_id, put, host)
