"""What the process has of peering: the key file, and the connections to peers."""

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
from rqdisco.security.file_modes import warn_of_others

_log = Logger()


def links(reactor: Any, keys: Keys, random: RandomBytes, policy: IPolicyForHTTPS) -> Callable[[str], Link]:
    """What makes the way to a URL; all ways share a pool of connections. `policy` is for those by
    https.
    """
    agent = Agent(reactor, policy, connectTimeout=PUSH_SECONDS, pool=_pool(reactor))
    return lambda url: HTTPLink(url, agent, reactor, keys, random)


def _pool(reactor: Any) -> HTTPConnectionPool:
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = 8
    # A line for each connection, otherwise.
    pool._factory.noisy = False
    # Shorter than a peer keeps an idle connection: one that it just closed would lose a message.
    pool.cachedConnectionTimeout = 60
    return pool


def read_keys(path: Path) -> KeyRing:
    """The keys of a file. Raises KeysUnusable."""
    try:
        ring = parse_keys(path.read_bytes())
    except OSError as error:
        raise KeysUnusable(f"{path}: {error.strerror}; it must hold a key for this daemon to have peers") from None
    except BadKeys as error:
        raise KeysUnusable(f"{path}: {error}") from None
    warn_of_others(path, "peers' keys")
    return ring


def rereading(path: Path, keys: Keys, resource: PeerResource) -> Callable[[], None]:
    """What reads the key file again; one that cannot be used changes nothing."""

    def reread() -> None:
        try:
            keys.ring = read_keys(path)
        except KeysUnusable as error:
            _log.error("keys not read again, the old ones stay: {why}", why=str(error))
            return
        resource.keys_changed()
        _log.info("keys read again", count=len(keys.ring.keys))

    return reread
