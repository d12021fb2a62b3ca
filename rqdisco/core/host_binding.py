"""Loopback addresses bind an ID to one client host (rule R5d). Pure functions on records.

With rqlited's defaults every node registers `localhost:4001`. On one machine these nodes form a
cluster. On several machines more than one of them would be told to bootstrap, and others would join
their own loopback address.

A *client host* is the address a request came from, or `@` and an incarnation for the machine of
that daemon; None where a proxy hides it. Daemons that reach each other at loopback addresses share
a machine, `@localhost`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from rqdisco.core.addresses import any_local, host_of, is_local
from rqdisco.core.errors import LoopbackConflict
from rqdisco.core.records import Node, Record, own_entries

# The client host of a client on the daemon's own machine, before it is named.
THIS_MACHINE = "@"
LOCALHOST = "localhost"
_PRINTABLE = re.compile(r"[A-Za-z0-9.:/\[\]_-]{1,60}\Z")

# Returns the address at which other nodes join a node.
JoinedBy = Callable[[Node], str]


class Nodes(Protocol):
    """A record, or the public view of one."""

    @property
    def nodes(self) -> tuple[Node, ...]: ...

    @property
    def host(self) -> str | None: ...


def by_http(node: Node) -> str:
    """Return the address at which rqlite 3 to 6 join a node; they register no other."""
    return node.addr


def by_raft(node: Node) -> str:
    """Return the address at which rqlite 8 and later join the leader of consul-kv. rqlite 7 joins
    by HTTP, but its claims look the same.
    """
    return node.raft_addr or node.addr


_FLAGS: dict[JoinedBy, str] = {by_http: "-http-adv-addr", by_raft: "-raft-adv-addr"}


def name_host(host: str | None, machine: str) -> str | None:
    """Return the client host as records store it; `machine` is the name of this daemon's
    machine.
    """
    return f"{THIS_MACHINE}{machine}" if host == THIS_MACHINE else host


def rename_host(record: Record, machine: str) -> Record:
    """Return a daemon's own record with the present name of its machine.

    The machine had another name before the daemon had peers, or another address.
    """
    if record.host not in (f"{THIS_MACHINE}{record.owner}", f"{THIS_MACHINE}{LOCALHOST}"):
        return record
    host = name_host(THIS_MACHINE, machine)
    return record if record.host == host else replace(record, host=host)


def export_host(host: str | None) -> str | None:
    """Return the client host for an export; the machine of a daemon means nothing elsewhere."""
    return None if host is None or host.startswith(THIS_MACHINE) else host


def check_list(record: Nodes, node: Node, host: str | None) -> None:
    """Raise LoopbackConflict where a client at `host` must not register `node` and join the others.

    A record of an earlier release, or an import, may list loopback addresses and be bound to no
    host. The next host that registers one binds it. Until then other nodes are refused, since they
    would join their own loopback address; a node that is listed may restart.
    """
    if record.host is not None or is_local(node.addr):
        check_host(record, node, by_http, host)
        return
    if any_local([entry.addr for entry in record.nodes]):
        _check_beside_local(record, node)


def _check_beside_local(record: Nodes, node: Node) -> None:
    """Raise LoopbackConflict where `node` would join a loopback address that is listed, unless it
    is listed itself.
    """
    local = [entry for entry in record.nodes if is_local(entry.addr)]
    own = own_entries(record.nodes, node)
    was_listed = any(entry not in local for entry in own)
    if not was_listed and any(entry not in own for entry in local):
        raise LoopbackConflict(f"{_local_of(record.nodes, by_http)} is a loopback address, set -http-adv-addr there")


def check_host(record: Nodes, node: Node, joined_by: JoinedBy, host: str | None) -> None:
    """Raise LoopbackConflict where a client at `host` must not list `node`."""
    addr = joined_by(node)
    if record.host is not None:
        if host != record.host:
            raise LoopbackConflict(
                f"{_local_of(record.nodes, joined_by)} is another machine's, set {_FLAGS[joined_by]}"
            )
        return
    if not is_local(addr) or _is_listed_beside_others(record.nodes, addr, joined_by):
        return
    if host is None:
        raise LoopbackConflict(f"{_shown(addr)} came through a proxy that hides its machine, set {_FLAGS[joined_by]}")
    if not all(entry == node or _is_at(entry, host) for entry in record.nodes):
        raise LoopbackConflict(f"{_shown(addr)} is a loopback address beside others, set {_FLAGS[joined_by]}")


def objection(record: Nodes, node: Node, joined_by: JoinedBy, host: str | None) -> str | None:
    """Return why a client at `host` must not list `node`, None if it may."""
    try:
        check_host(record, node, joined_by, host)
    except LoopbackConflict as refusal:
        return str(refusal)
    return None


def may_join(record: Nodes, entry: Node, joined_by: JoinedBy, host: str | None) -> bool:
    """Report whether a client at `host` may join a listed node: a loopback address only of its own
    machine.
    """
    return not is_local(joined_by(entry)) if record.host is None else host == record.host


def bind(record: Record, node: Node, joined_at: str, host: str | None) -> Record:
    """Return the record, which lists `node`, bound to `host` if `joined_at` is a loopback
    address.
    """
    if record.host is not None or host is None or not is_local(joined_at):
        return record
    if not all(entry.addr == node.addr or _is_at(entry, host) for entry in record.nodes):
        # It was listed beside others by a release without this rule.
        return record
    return replace(record, host=host)


def unbind(record: Record) -> Record:
    """Return the record bound to no host if no loopback address is listed."""
    if record.host is None or any(map(_has_local, record.nodes)):
        return record
    return replace(record, host=None)


def _is_listed_beside_others(nodes: Sequence[Node], addr: str, joined_by: JoinedBy) -> bool:
    """Report whether a release without this rule listed the address beside other machines'."""
    addrs = [joined_by(entry) for entry in nodes]
    return addr in addrs and not all(map(is_local, addrs))


def _is_at(entry: Node, host: str) -> bool:
    """Report whether the addresses of a listed node allow that it is on the machine `host`."""
    others = _other_hosts(entry)
    return not others or host in others


def _other_hosts(entry: Node) -> list[str]:
    """Return the hosts of a node's addresses, except loopback addresses."""
    return [host_of(addr) for addr in (entry.addr, entry.raft_addr) if addr is not None and not is_local(addr)]


def _has_local(entry: Node) -> bool:
    return is_local(entry.addr) or (entry.raft_addr is not None and is_local(entry.raft_addr))


def _local_of(nodes: Sequence[Node], joined_by: JoinedBy) -> str:
    """Return the first listed loopback address for an error, preferably one that nodes join."""
    joined = [joined_by(node) for node in nodes]
    others = [addr for node in nodes for addr in (node.addr, node.raft_addr) if addr is not None]
    return next((_shown(addr) for addr in (*joined, *others) if is_local(addr)), "the list")


def _shown(addr: str) -> str:
    """Return an address as a reason phrase can show it (RFC 9112 section 4)."""
    return addr if _PRINTABLE.match(addr) else "a loopback address"
