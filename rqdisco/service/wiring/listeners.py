"""Builds the listeners of a daemon, and the HTTP sites behind them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import msgspec
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from rqdisco.core.directory import Names
from rqdisco.dns.response_rate_limit import ResponseRateLimit
from rqdisco.dns.responses import NameServer
from rqdisco.dns.server import DNSServer
from rqdisco.http.apis import Apis
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.http.server.forwarded import TrustedProxies
from rqdisco.http.server.host_allowlist import HostAllowlist
from rqdisco.http.server.interfaces import Application
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.http.server.throttling import throttle
from rqdisco.http.server.trusted_proxies import ForwardedHeadersApplication
from rqdisco.limits.connection_limiter import UNLIMITED, ConnectionLimiter
from rqdisco.probes.node_health import NodeHealth
from rqdisco.probes.resolution.host_names import MAX_LOOKUPS, HostNames
from rqdisco.probes.resolution.system_resolver import SystemResolver
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Bounds, Config, DNSConfig
from rqdisco.service.listeners import DNSListener, HTTPListener, Listener, endpoint, owner_only_socket
from rqdisco.service.reachability import check_protected
from rqdisco.service.system import System
from rqdisco.service.wiring.backend import Backend
from rqdisco.service.wiring.telemetry import Counts

# Unless the operator sets another number: at some 10 KiB each that is 100 MiB.
DEFAULT_CONNECTIONS = 10_000
# Every peer needs a few of them.
PEER_CONNECTIONS = 128
PEER_CONNECTIONS_EACH = 32
METRICS_CONNECTIONS = 32

ParsedEndpoints = list[tuple[str, IStreamServerEndpoint]]

_log = Logger()


class ListenerEndpoints(msgspec.Struct, frozen=True):
    """The endpoints of the listeners that the options name, not opened yet."""

    public: ParsedEndpoints
    metrics: ParsedEndpoints
    peers: ParsedEndpoints


class ListenerContext(msgspec.Struct, frozen=True):
    """The parts that a daemon's listeners share. `node_health` is None without probes."""

    config: Config
    system: System
    certificates: Certificates
    counts: Counts
    telemetry: RequestTelemetry
    node_health: NodeHealth | None


def build_listeners(
    context: ListenerContext, endpoints: ListenerEndpoints, apis: Apis, page: Application, backend: Backend
) -> list[Listener]:
    """Build all listeners that the options ask for. `page` answers `/metrics`."""
    config = context.config
    listeners: list[Listener] = [build_public_listener(context, endpoints.public, apis)]
    if config.operator_socket is not None:
        listeners.append(build_operator_listener(context, config.operator_socket, apis))
    if config.metrics_listen:
        listeners.append(build_metrics_listener(context, endpoints.metrics, page))
    if config.dns is not None:
        listeners.append(build_dns_listener(context, config.dns, backend.names))
    if config.peers is not None and backend.peers is not None:
        listeners.append(build_peer_listener(context, endpoints.peers, backend.peers.resource))
    return listeners


def build_endpoints(config: Config, system: System, certificates: Certificates) -> ListenerEndpoints:
    """Parse the endpoints that the options name. Raises BadEndpoint, CannotListen, TLSUnusable, and
    UnprotectedListener.
    """

    def parse(option: str, descriptions: Sequence[str]) -> ParsedEndpoints:
        return [endpoint(system.reactor, option, each, certificates) for each in descriptions]

    public = parse("listen", config.listen)
    if not (config.is_open or config.tokens is not None):
        check_protected(config.listen)
    peers = parse("peer-listen", () if config.peers is None else config.peers.listen)
    return ListenerEndpoints(public, parse("metrics-listen", config.metrics_listen), peers)


def build_public_listener(context: ListenerContext, endpoints: ParsedEndpoints, apis: Apis) -> HTTPListener:
    """Build the listener for nodes and operators."""
    config, clock = context.config, context.system.reactor
    requires_token = config.tokens is not None
    proxies = TrustedProxies(config.trusted_proxies)
    application = throttle(
        apis.public(), clock, config.bounds.client_rate, context.system.cpu, context.telemetry.count_throttled
    )
    if config.trusted_proxies:
        application = ForwardedHeadersApplication(application, proxies)
    limiter = build_public_limiter(config.bounds, context.system, proxies)
    return HTTPListener(
        "endpoints",
        clock,
        endpoints,
        _build_site(context, application, SiteConfig(idle_seconds=config.idle_timeout), limiter),
        is_guarded=config.is_open or requires_token,
        hosts=None if requires_token else _build_allowlist(context),
    )


def build_operator_listener(context: ListenerContext, path: Path, apis: Apis) -> HTTPListener:
    """Build the listener that only the daemon's own user can connect to."""
    clock = context.system.reactor
    site = _build_site(context, apis.operators(), SiteConfig(), _build_limiter(context.system))
    return HTTPListener("operator", clock, [owner_only_socket(clock, path)], site)


def build_metrics_listener(context: ListenerContext, endpoints: ParsedEndpoints, page: Application) -> HTTPListener:
    """Build the listener for Prometheus."""
    limiter = _build_limiter(context.system, METRICS_CONNECTIONS, METRICS_CONNECTIONS)
    return HTTPListener(
        "metrics",
        context.system.reactor,
        endpoints,
        _build_site(context, page, SiteConfig(), limiter),
        hosts=_build_allowlist(context),
    )


def build_peer_listener(context: ListenerContext, endpoints: ParsedEndpoints, resource: Application) -> HTTPListener:
    """Build the listener for peers."""
    site_config = SiteConfig(trusts_clients=True, route=("peers", "any"))
    limiter = _build_limiter(context.system, PEER_CONNECTIONS, PEER_CONNECTIONS_EACH)
    return HTTPListener(
        "peers",
        context.system.reactor,
        endpoints,
        _build_site(context, resource, site_config, limiter),
    )


def build_dns_listener(context: ListenerContext, config: DNSConfig, names: Names) -> DNSListener:
    """Build the listener for resolvers."""
    reactor, counts = context.system.reactor, context.counts
    host_names = HostNames(reactor, SystemResolver(reactor, MAX_LOOKUPS), counts=counts.dns_lookups)
    ips = [host for host, _ in config.addresses if not ipaddress.ip_address(host).is_unspecified]
    server = NameServer(names, config.zone, host_names, reactor, config.nameserver, ips, context.node_health)
    limit = ResponseRateLimit(config.rate, reactor.seconds)
    return DNSListener(DNSServer(reactor, server, limit, config.addresses, counts.dns))


def build_public_limiter(bounds: Bounds, system: System, proxies: TrustedProxies) -> ConnectionLimiter:
    """Build the limiter of the public listener: as many connections as the operator allows and
    there are file descriptors for.
    """
    wanted = DEFAULT_CONNECTIONS if bounds.connections is None else bounds.connections
    allowed = system.allow_descriptors(wanted)
    if allowed < wanted and bounds.connections is not None:
        _log.warn("fewer connections than --max-connections: too few file descriptors (ulimit -n)", connections=allowed)
    return ConnectionLimiter(allowed, bounds.client_connections, system.reactor.seconds, proxies.include)


def _build_limiter(system: System, total: int = UNLIMITED, each: int = UNLIMITED) -> ConnectionLimiter:
    return ConnectionLimiter(total, each, system.reactor.seconds)


def _build_allowlist(context: ListenerContext) -> HostAllowlist:
    """Build the check of the Host header, which protects listeners without tokens from DNS
    rebinding.
    """
    return HostAllowlist(context.config.hosts, context.system.reactor.seconds, context.telemetry.count_foreign_host)


def _build_site(
    context: ListenerContext, application: Application, config: SiteConfig, limiter: ConnectionLimiter
) -> Site:
    system = context.system
    return Site(application, system.reactor, config, system.wall, context.counts.requests, limiter)
