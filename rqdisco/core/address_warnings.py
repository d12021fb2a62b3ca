"""Warnings about registered addresses that will not work, each with what to do about it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from rqdisco.core.addresses import OTHER_IPV4, host_of, is_local, is_unspecified
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from rqdisco.core.views import View

_HIGHEST_PORT = 65535
_SCHEME = re.compile(r"\Ahttps?://")
_PORT = re.compile(r"(?<!:):([0-9]+)/?\Z")
_HOST = re.compile(r"(?:[^\[\]:/?#@]+|\[[^\[\]/?#@]+\])/?\Z")


class AddressWarning(msgspec.Struct, frozen=True):
    """A registered address, what is wrong with it, and what to do."""

    addr: str
    problem: str
    fix: str


class _Use(msgspec.Struct, frozen=True):
    """A use of an address: the flag of rqlited that sets it, and rqlited's own port."""

    flag: str
    port: int


_HTTP, _RAFT = _Use("-http-adv-addr", 4001), _Use("-raft-adv-addr", 4002)


def address_warnings(view: View) -> list[AddressWarning]:
    """Return the warnings about all addresses under an ID."""
    found: list[AddressWarning] = []
    for node in view.nodes:
        # Each lookup checks every listed node, and there is a warning about very few.
        if not (_is_plain(node.addr) and (node.raft_addr is None or _is_plain(node.raft_addr))):
            found.extend(_warnings_of(view, node))
    found.extend(_listed_twice(view))
    return found


def warn_of_address(discovery_id: str, addr: str, host: str | None, *, raft: bool = False) -> AddressWarning | None:
    """Return the warning about an address that a client at `host` registers, None if there is none.

    A Raft address is part of an entry, which is replaced when its node registers again; an HTTP
    address names the entry, which is to be removed.
    """
    # Nearly all addresses have this form.
    match = OTHER_IPV4.match(addr)
    if match is not None and 0 < int(match[1]) <= _HIGHEST_PORT:
        return None
    use = _RAFT if raft else _HTTP
    return _wrong_form(addr, use, None if raft else discovery_id) or _misleading(addr, use, host)


@lru_cache(maxsize=65_536)
def _is_plain(addr: str) -> bool:
    """Report whether there is no warning about an address, whoever registers it."""
    return _wrong_form(addr, _HTTP, None) is None and not is_local(addr)


def _warnings_of(view: View, node: Node) -> Iterator[AddressWarning]:
    """Return the warnings about a node's addresses. One that claimed to lead without an HTTP address
    is listed by its Raft address.
    """
    found = [warn_of_address(view.id, node.addr, view.host)]
    if node.raft_addr is not None and node.raft_addr != node.addr:
        found.append(warn_of_address(view.id, node.raft_addr, view.host, raft=True))
    for warning in found:
        if warning is not None:
            yield warning


def _wrong_form(addr: str, use: _Use, discovery_id: str | None) -> AddressWarning | None:
    """Return the warning about an address that is not HOST:PORT; with `discovery_id`, to be removed."""
    bare = _SCHEME.sub("", addr)
    match = _PORT.search(bare)
    host, problem = bare if match is None else bare[: match.start()], None
    if match is None:
        problem = "has no port" if _HOST.match(bare) else "is not HOST:PORT"
    elif not 0 < int(match[1]) <= _HIGHEST_PORT:
        problem = f"has a port that is not from 1 to {_HIGHEST_PORT}"
    elif not _HOST.match(host):
        problem = "is not HOST:PORT"
    if problem is None:
        return None
    is_useful = _HOST.match(host) and not is_local(addr)
    example = shlex.quote(f"{host.rstrip('/')}:{use.port}") if is_useful else f"HOST:{use.port}"
    removal = "" if discovery_id is None else f", then run `rqdisco remove {discovery_id} {shlex.quote(addr)}`"
    return AddressWarning(addr, f"{addr} {problem}", f"restart its node with {use.flag} {example}{removal}")


def _misleading(addr: str, use: _Use, host: str | None) -> AddressWarning | None:
    """Return the warning about an address that leads other machines nowhere, or to themselves."""
    if not is_local(addr):
        return None
    fix = f"restart its node with {use.flag} and an address that the other machines reach"
    if is_unspecified(host_of(addr)):
        return AddressWarning(addr, f"{addr} is the address of no machine", fix)
    if host is not None and host.startswith(THIS_MACHINE):
        # All nodes run beside a daemon.
        return None
    origin = "" if host is None else ", registered from another machine"
    return AddressWarning(
        addr, f"{addr} is a loopback address{origin}: only nodes on the machine of its node can join it", fix
    )


def _listed_twice(view: View) -> Iterator[AddressWarning]:
    """Return the warnings about addresses that are listed without their scheme as well, or with two
    schemes.
    """
    with_scheme = [node.addr for node in view.nodes if "://" in node.addr]
    if not with_scheme:
        return
    listed = {_SCHEME.sub("", node.addr): node.addr for node in reversed(view.nodes)}
    listed.update({node.addr: node.addr for node in view.nodes if "://" not in node.addr})
    for addr in with_scheme:
        other = listed[_SCHEME.sub("", addr)]
        if other != addr:
            yield AddressWarning(
                addr,
                f"{addr} is listed beside {other}, and both are one node",
                f"run `rqdisco remove {view.id} {shlex.quote(addr)}`",
            )
