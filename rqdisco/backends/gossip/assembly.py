"""Builds the backend of a daemon with peers.

`service.wiring.gossip` makes one `GossipBackend` per daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rqdisco.backends.gossip.admin import GossipAdmin, PeerReport
from rqdisco.backends.gossip.core import decide
from rqdisco.backends.gossip.core.inputs import RevokeStuck
from rqdisco.backends.gossip.core.machine import Machine
from rqdisco.backends.gossip.core.members import Members
from rqdisco.backends.gossip.core.messages import Member
from rqdisco.backends.gossip.core.state import MachineConfig
from rqdisco.backends.gossip.directory import GossipDirectory
from rqdisco.backends.gossip.driver import Driver
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.limits import Limits
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.host_binding import LOCALHOST
from rqdisco.storage.memory import Store
from rqdisco.storage.wal.writer import Journal


class GossipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's settings for peers: this daemon's name and URL, the URLs to find others at,
    and whether a bootstrap grant requires an acknowledgement.
    """

    name: str
    url: str
    seeds: tuple[str, ...] = ()
    ack_required: bool = False


class GossipContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts and settings that a gossip backend is built from.

    `metadata` is stored beside the records. `on_fenced` is called with the reason when this
    daemon is fenced.
    """

    config: GossipConfig
    limits: Limits
    incarnation: str
    store: Store
    journal: Journal
    metadata: Sequence[Metadata]
    environment: GossipEnvironment
    on_fenced: Callable[[str], None] = lambda _: None


def known_members(metadata: Sequence[Metadata], own: str) -> Sequence[Member]:
    """Return the other daemons that are still members according to the metadata."""
    return Members(Member(incarnation=own, name="", url=""), metadata).others


class GossipBackend:
    """The backend of a daemon with peers.

    `state` is the machine's, to read. `driver` is the service to start, which also answers peers.
    `directory` answers the APIs, `report` and `admin` operators.
    """

    def __init__(self, context: GossipContext) -> None:
        store, environment, subscriptions = context.store, context.environment, Subscriptions()
        store.on_settled.append(subscriptions.settled)
        store.on_dropped.append(subscriptions.dropped)
        self.watermarks = ExpiryWatermarks(context.metadata)
        self.driver = Driver(
            lambda now: Machine(_machine_config(context), store, context.metadata, self.watermarks, now),
            store,
            context.journal,
            environment,
            subscriptions.notify,
            context.on_fenced,
        )
        self.state = state = self.driver.state
        seconds = environment.clock.seconds
        self.directory = GossipDirectory(state, self.driver, subscriptions, environment.random, seconds)
        self.report = PeerReport(state, seconds)
        self.admin = GossipAdmin(self.report, self.driver, environment.clock)

    def may_expire(self) -> bool:
        """Report whether this daemon may expire its own unused IDs."""
        return decide.may_expire(self.state)

    def has_pending_grant(self, discovery_id: str) -> bool:
        """Report whether a grant of the ID is pending."""
        return discovery_id in self.state.pending_grants

    async def revoke_stuck(self) -> None:
        """Try once more to revoke the grants that the disk refused to revoke."""
        await self.driver.request(RevokeStuck())


def _machine_config(context: GossipContext) -> MachineConfig:
    config = context.config
    return MachineConfig(
        incarnation=context.incarnation,
        run_id=context.environment.random_name(),
        name=config.name,
        url=config.url,
        # A client that reaches this daemon by loopback runs on the same host.
        host=LOCALHOST if is_local(config.url) else context.incarnation,
        seeds=config.seeds,
        ack_required=config.ack_required,
        limits=context.limits,
    )
