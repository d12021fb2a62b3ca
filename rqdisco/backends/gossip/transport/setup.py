"""Peer transport of the process: key file and connections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IPolicyForHTTPS

from rqdisco.backends.gossip.transport.http_link import HTTPLink, Keys
from rqdisco.backends.gossip.transport.keyring import BadKeys, KeyRing, parse_keys
from rqdisco.backends.gossip.transport.links import PUSH_SECONDS, Link
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.core.errors import KeysUnusable
from rqdisco.core.ids import RandomBytes
from rqdisco.security.file_modes import warn_of_loose_mode
from rqdisco.twisted_compat import silence_client_connections

_log = Logger()


def link_factory(
    reactor: IReactorTime, keys: Keys, random: RandomBytes, policy: IPolicyForHTTPS
) -> Callable[[str], Link]:
    """Return a factory of links that share a connection pool; `policy` applies to https."""
    agent = Agent(reactor, policy, connectTimeout=PUSH_SECONDS, pool=_pool(reactor))
    return lambda url: HTTPLink(url, agent, reactor, keys, random)


def _pool(reactor: IReactorTime) -> HTTPConnectionPool:
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = 8
    silence_client_connections(pool)
    # Shorter than a peer's idle timeout: a connection it just closed would lose a message.
    pool.cachedConnectionTimeout = 60
    return pool


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
