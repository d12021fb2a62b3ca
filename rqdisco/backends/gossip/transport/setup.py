"""Reads the key file of peers, and builds the connections to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def connect_to_peers(reactor: Any, keys: Keys, random: RandomBytes, policy: IPolicyForHTTPS) -> Callable[[str], Link]:
    """Return what builds the link to a URL. All links share a pool of connections; `policy` is for
    https URLs.
    """
    agent = Agent(reactor, policy, connectTimeout=PUSH_SECONDS, pool=_pool(reactor))
    return lambda url: HTTPLink(url, agent, reactor, keys, random)


def _pool(reactor: Any) -> HTTPConnectionPool:
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = 8
    silence_client_connections(pool)
    # Less than a peer keeps an idle connection open: a message on one that it just closed is lost.
    pool.cachedConnectionTimeout = 60
    return pool


def read_keys(path: Path) -> KeyRing:
    """Return the keys in a file. Raises KeysUnusable."""
    try:
        ring = parse_keys(path.read_bytes())
    except OSError as error:
        raise KeysUnusable(f"{path}: {error.strerror}; it must hold a key for this daemon to have peers") from None
    except BadKeys as error:
        raise KeysUnusable(f"{path}: {error}") from None
    warn_of_loose_mode(path, "peers' keys")
    return ring


def reload_keys(path: Path, keys: Keys, resource: PeerResource) -> None:
    """Read the key file again. If it cannot be used, log that and change nothing."""
    try:
        keys.ring = read_keys(path)
    except KeysUnusable as error:
        _log.error("keys not reloaded, the old ones stay in use: {why}", why=str(error))
        return
    resource.keys_changed()
    _log.info("keys reloaded", count=len(keys.ring.keys))
