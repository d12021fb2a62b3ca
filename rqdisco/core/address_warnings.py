"""Warnings about registered addresses that will not work, each with what to do about it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import msgspec

from rqdisco.core.addresses import OTHER_IPV4, host_of, is_local, is_unspecified
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from rqdisco.core.views import View

_HIGHEST_PORT = 65535
_SCHEME = re.compile(r"\Ahttps?://")
_PORT = re.compile(r"(?<!:):([0-9]+)/?\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])/?\Z")


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
        found.extend(_warnings_of(view, node))
    found.extend(_twins(view))
    return found


def _warnings_of(view: View, node: Node) -> Iterator[AddressWarning]:
    """Return the warnings about a node's addresses. One that claimed to lead without an HTTP address
    is listed by its Raft address.
    """
    uses = [(node.addr, _HTTP if node.addr != node.raft_addr else _RAFT)]
    if node.raft_addr is not None and node.raft_addr != node.addr:
        uses.append((node.raft_addr, _RAFT))
    for addr, use in uses:
        # Nearly all addresses have this form.
        match = OTHER_IPV4.match(addr)
        if match is None or not 0 < int(match[1]) <= _HIGHEST_PORT:
            found = _wrong_form(view, node, addr, use) or _misleading(view, addr, use)
            if found is not None:
                yield found


def _wrong_form(view: View, node: Node, addr: str, use: _Use) -> AddressWarning | None:
    """Return the warning about an address that is not HOST:PORT."""
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
    example = f"{host.rstrip('/')}:{use.port}" if is_useful else f"HOST:{use.port}"
    removal = f", then run `rqdisco remove {view.id} {shlex.quote(addr)}`" if addr == node.addr else ""
    return AddressWarning(addr, f"{addr} {problem}", f"restart its node with {use.flag} {example}{removal}")


def _misleading(view: View, addr: str, use: _Use) -> AddressWarning | None:
    """Return the warning about an address that leads other machines nowhere, or to themselves."""
    if not is_local(addr):
        return None
    fix = f"restart its node with {use.flag} and an address that the other machines reach"
    if is_unspecified(host_of(addr)):
        return AddressWarning(addr, f"{addr} is the address of no machine", fix)
    if view.host is not None and view.host.startswith(THIS_MACHINE):
        # All nodes run beside a daemon.
        return None
    return AddressWarning(
        addr, f"{addr} is a loopback address from another machine: only nodes on that machine can join it", fix
    )


def _twins(view: View) -> Iterator[AddressWarning]:
    """Return the warnings about addresses that are listed without their scheme as well, or with two
    schemes.
    """
    with_scheme = [node.addr for node in view.nodes if "://" in node.addr]
    if not with_scheme:
        return
    listed = {_SCHEME.sub("", node.addr): node.addr for node in reversed(view.nodes)}
    listed.update({node.addr: node.addr for node in view.nodes if "://" not in node.addr})
    for addr in with_scheme:
        twin = listed[_SCHEME.sub("", addr)]
        if twin != addr:
            yield AddressWarning(
                addr,
                f"{addr} is listed beside {twin}, and both are one node",
                f"run `rqdisco remove {view.id} {shlex.quote(addr)}`",
            )
