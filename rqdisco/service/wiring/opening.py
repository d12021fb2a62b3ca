"""Where the daemon listens, and with what."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.web.resource import IResource

from rqdisco.backends.gossip.assembly import GossipBackend
from rqdisco.backends.gossip.transport.resource import MAX_BYTES as PEER_BYTES
from rqdisco.backends.gossip.transport.resource import UNAUTHENTICATED_BYTES, PeerResource
from rqdisco.backends.gossip.transport.setup import key_reloader
from rqdisco.core.directory import Directory
from rqdisco.dns.responses import NameServer
from rqdisco.dns.server import DNSServer
from rqdisco.dns.source_limit import SourceLimit
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.http.router import IMPORT_BYTES, Apis
from rqdisco.http.server.host_allowlist import HostAllowlist
from rqdisco.http.server.site import BoundedSite
from rqdisco.http.server.throttling import throttled
from rqdisco.limits.connection_limiter import ConnectionLimiter
from rqdisco.probes.resolution.host_names import AT_ONCE, HostNames
from rqdisco.probes.resolution.system_resolver import SystemResolver
from rqdisco.probes.scheduler import ProbeScheduler
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Config, DNSConfig, PeerConfig
from rqdisco.service.listeners import DNSListener, HTTPListener, Listener, endpoint, owners_socket
from rqdisco.service.system import System
from rqdisco.service.wiring.registry import MetricsRegistry

# Unless the operator says otherwise: at some 10 KiB each that is 100 MiB.
MOST_CONNECTIONS = 10_000
# Every peer needs a few of them.
PEER_CONNECTIONS = 128
PEER_CONNECTIONS_EACH = 32
METRICS_CONNECTIONS = 32


class ListenerFactory:
    """Makes the doors of a daemon, and the sites behind those that speak HTTP.

    The endpoints of the public doors are looked at first, so that a wrong one is said before
    anything is done.
    """

    _log = Logger()

    def __init__(self, config: Config, machine: System, certificates: Certificates, watch: MetricsRegistry) -> None:
        self._config = config
        self._machine = machine
        self._certificates = certificates
        self._watch = watch
        self._public = self._endpoints("listen", config.listen)
        self.listeners: list[Listener] = []
        self.sites: dict[str, BoundedSite] = {}

    def public(self, listeners: Apis, telemetry: RequestTelemetry, *, is_guarded: bool) -> None:
        """For nodes and their operators."""
        paths = throttled(
            listeners.public(), self._machine.reactor, self._config.bounds.client_rate, telemetry.held_too_long
        )
        site = self._site(
            "endpoints",
            paths,
            max_body=self._config.max_body,
            most_body=IMPORT_BYTES,
            may_send_more=listeners.may_send_more,
            limiter=self._limiter(),
        )
        hosts = self._hosts(telemetry) if self._config.tokens is None else None
        self.listeners.append(
            HTTPListener("endpoints", self._machine.reactor, self._public, site, is_guarded=is_guarded, hosts=hosts)
        )

    def operator(self, listeners: Apis) -> None:
        """For the owner of the daemon, if that is wanted."""
        if self._config.operator_socket is not None:
            site = self._site("operator", listeners.operators(), max_body=IMPORT_BYTES)
            at = owners_socket(self._machine.reactor, self._config.operator_socket)
            self.listeners.append(HTTPListener("operator", self._machine.reactor, [at], site))

    def metrics(self, telemetry: RequestTelemetry) -> None:
        """For Prometheus, if that is wanted."""
        if self._config.metrics_listen:
            limiter = ConnectionLimiter(METRICS_CONNECTIONS, METRICS_CONNECTIONS, self._machine.reactor.seconds)
            site = self._site("metrics", self._watch.page, max_body=0, limiter=limiter)
            at = self._endpoints("metrics-listen", self._config.metrics_listen)
            self.listeners.append(
                HTTPListener("metrics", self._machine.reactor, at, site, hosts=self._hosts(telemetry))
            )

    def names(self, config: DNSConfig, directory: Directory, scheduler: ProbeScheduler | None) -> None:
        """For resolvers."""
        reactor = self._machine.reactor
        host_names = HostNames(reactor, SystemResolver(reactor, AT_ONCE), counts=self._watch.look_ups["dns"])
        ips = [host for host, _ in config.addresses if not ipaddress.ip_address(host).is_unspecified]
        server = NameServer(directory, config.zone, host_names, reactor, config.nameserver, ips, scheduler)
        limit = SourceLimit(config.rate, reactor.seconds)
        self.listeners.append(DNSListener(DNSServer(reactor, server, limit, config.addresses, self._watch.dns)))

    def peers(self, said: PeerConfig, backend: GossipBackend) -> None:
        """For peers."""
        reactor = self._machine.reactor
        resource = PeerResource(backend.request_handler, backend.keys, reactor, self._machine.random)
        site = self._site(
            "peers",
            resource,
            max_body=UNAUTHENTICATED_BYTES,
            most_body=PEER_BYTES,
            may_send_more=resource.may_send_more,
            route=("peers", "any"),
            trusting=True,
            limiter=ConnectionLimiter(PEER_CONNECTIONS, PEER_CONNECTIONS_EACH, reactor.seconds),
        )
        self._machine.on_hangup(key_reloader(said.keys, backend.keys, resource))
        self.listeners.append(HTTPListener("peers", reactor, self._endpoints("peer-listen", said.listen), site))

    def _hosts(self, telemetry: RequestTelemetry) -> HostAllowlist:
        """What requests may be for where only this machine asks, and needs no token."""
        return HostAllowlist(self._config.hosts, self._machine.reactor.seconds, telemetry.host_refused)

    def _endpoints(self, option: str, descriptions: tuple[str, ...]) -> list[tuple[str, IStreamServerEndpoint]]:
        return [endpoint(self._machine.reactor, option, each, self._certificates) for each in descriptions]

    def _site(self, name: str, resource: IResource, **bounds: Any) -> BoundedSite:
        site = BoundedSite(
            resource, reactor=self._machine.reactor, wall=self._machine.wall, counts=self._watch.requests, **bounds
        )
        self.sites[name] = site
        return site

    def _limiter(self) -> ConnectionLimiter:
        """As many connections as the operator allows, and there are descriptors for."""
        bounds = self._config.bounds
        wanted = MOST_CONNECTIONS if bounds.connections is None else bounds.connections
        most = self._machine.descriptors(wanted)
        if most < wanted and bounds.connections is not None:
            self._log.warn(
                "fewer connections than asked for: there are too few descriptors (ulimit -n)", connections=most
            )
        return ConnectionLimiter(most, bounds.client_connections, self._machine.reactor.seconds)
