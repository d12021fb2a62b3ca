"""Peer transport of the process: key file and connections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IPolicyForHTTPS

from rqdisco.backends.gossip.transport.http_link import HTTPLink, Keys
from rqdisco.backends.gossip.transport.keyring import BadKeys, KeyRing, parse_keys
from rqdisco.backends.gossip.transport.links import CONNECT_SECONDS, Link
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.backends.gossip.transport.seals import KEY_HEADER, SESSION_HEADER
from rqdisco.core.errors import KeysUnusable
from rqdisco.core.ids import RandomBytes
from rqdisco.http_client.client import EndpointFactory, HTTPClient
from rqdisco.http_client.network import Network
from rqdisco.http_client.pool import PoolConfig
from rqdisco.security.file_modes import warn_of_loose_mode

# Connections to each peer (its listener refuses more than 32 from one host), and how many of them
# forwarded requests may use. A message beyond that waits for a connection, as it would wait for the
# peer's CPU.
CONNECTIONS = 30
CALL_CONNECTIONS = 22

_log = Logger()


def link_factory(
    reactor: IReactorTime, keys: Keys, random: RandomBytes, policy: IPolicyForHTTPS
) -> Callable[[str], Link]:
    """Return a factory of links that share their connections; `policy` applies to https."""
    client = peer_client(Network(reactor, policy), reactor)
    return lambda url: HTTPLink(url, client, keys, random)


def peer_client(network: EndpointFactory, clock: IReactorTime) -> HTTPClient:
    """Return the client that sends a daemon's messages."""
    config = PoolConfig(
        max_connections=CONNECTIONS,
        max_waiting_for_others=CALL_CONNECTIONS,
        connect_seconds=CONNECT_SECONDS,
        kept_headers=frozenset({KEY_HEADER, SESSION_HEADER}),
    )
    return HTTPClient(network, clock, config)


def read_keys(path: Path) -> KeyRing:
    """Read a key file. Raises KeysUnusable."""
    try:
        ring = parse_keys(path.read_bytes())
    except OSError as error:
        raise KeysUnusable(f"{path}: {error.strerror}; it must hold a key for this daemon to have peers") from None
    except BadKeys as error:
        raise KeysUnusable(f"{path}: {error}") from None
    warn_of_loose_mode(path, "peers' keys")
    return ring


def reload_keys(path: Path, keys: Keys, resource: PeerResource) -> None:
    """Read the key file again; an unusable file changes nothing."""
    try:
        keys.ring = read_keys(path)
    except KeysUnusable as error:
        _log.error("peer keys not reloaded, the old ones stay in use: {why}", why=str(error))
        return
    resource.keys_changed()
    _log.info("peer keys reloaded", count=len(keys.ring.keys))
