"""Loopback addresses tie an ID to one client host (rule R5d). Pure functions on records.

Nodes left at rqlited's default all register `localhost:4001`. From one machine that is a cluster on
it; from several it would be several nodes told to bootstrap, and others sent to their own loopback.

A *client host* is the address a request came from, or `@` and an incarnation for the machine of
that daemon; None where a proxy hides it. Daemons that reach each other by loopback addresses are on
one machine, `@localhost`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from rqdisco.core.addresses import host_of, is_local
from rqdisco.core.errors import WrongHost
from rqdisco.core.records import Node, Record, own_entries

# What the layer above says of a client on the machine of the daemon that it asks.
THIS_MACHINE = "@"
LOCALHOST = "localhost"
_MAY_BE_SHOWN = re.compile(r"[A-Za-z0-9.:/\[\]_-]{1,60}\Z")

# The address of a node that others join it by.
JoinedBy = Callable[[Node], str]


class Nodes(Protocol):
    """A record, or the public view of one."""

    @property
    def nodes(self) -> tuple[Node, ...]: ...

    @property
    def host(self) -> str | None: ...


def by_http(node: Node) -> str:
    """Where rqlite 3 to 6 join a node, which register nothing else."""
    return node.addr


def by_raft(node: Node) -> str:
    """Where rqlite 8 and later join the leader of consul-kv. 7 joins by HTTP, and nothing tells its
    claims apart.
    """
    return node.raft_addr or node.addr


_FLAGS: dict[JoinedBy, str] = {by_http: "-http-adv-addr", by_raft: "-raft-adv-addr"}


def named(host: str | None, machine: str) -> str | None:
    """The client host as records keep it, where `machine` is what others call the machine of this
    daemon.
    """
    return f"{THIS_MACHINE}{machine}" if host == THIS_MACHINE else host


def renamed(record: Record, machine: str) -> Record:
    """The record of a daemon's own, where `machine` is what others call its machine by now.

    It had another name before there were peers, or before it was reached at another address.
    """
    if record.host not in (f"{THIS_MACHINE}{record.owner}", f"{THIS_MACHINE}{LOCALHOST}"):
        return record
    host = named(THIS_MACHINE, machine)
    return record if record.host == host else replace(record, host=host)


def exported(host: str | None) -> str | None:
    """The client host as an export has it: which machine a daemon is on means nothing elsewhere."""
    return None if host is None or host.startswith(THIS_MACHINE) else host


def check_list(record: Nodes, node: Node, host: str | None) -> None:
    """Raise WrongHost where a client at `host` must not register `node` and be told of the others.

    A record may list loopback addresses and be tied to no host: one of an earlier release, or an
    import. It is tied to the next host that registers one; nobody else may come meanwhile, for it
    would be sent to its own loopback. Who was listed before may start again.
    """
    check_host(record, node, by_http, host)
    if record.host is not None or is_local(node.addr):
        return
    local = [entry for entry in record.nodes if is_local(entry.addr)]
    if not local:
        return
    own = own_entries(record.nodes, node)
    was_listed = any(entry not in local for entry in own)
    if not was_listed and any(entry not in own for entry in local):
        raise WrongHost(f"{_local_of(record.nodes, by_http)} is a loopback address, set -http-adv-addr there")


def check_host(record: Nodes, node: Node, joined_by: JoinedBy, host: str | None) -> None:
    """Raise WrongHost where a client at `host` must not put `node` on the list."""
    addr = joined_by(node)
    if record.host is not None:
        if host != record.host:
            raise WrongHost(f"{_local_of(record.nodes, joined_by)} is another machine's, set {_FLAGS[joined_by]}")
        return
    if not is_local(addr) or _is_listed_beside_others(record.nodes, addr, joined_by):
        return
    if host is None:
        raise WrongHost(f"{_shown(addr)} came through a proxy that hides its machine, set {_FLAGS[joined_by]}")
    if not all(entry == node or _is_at(entry, host) for entry in record.nodes):
        raise WrongHost(f"{_shown(addr)} is a loopback address beside others, set {_FLAGS[joined_by]}")


def objection(record: Nodes, node: Node, joined_by: JoinedBy, host: str | None) -> str | None:
    """Why a client at `host` must not put `node` on the list, None if it may."""
    try:
        check_host(record, node, joined_by, host)
    except WrongHost as refusal:
        return str(refusal)
    return None


def may_join(record: Nodes, entry: Node, joined_by: JoinedBy, host: str | None) -> bool:
    """Whether a client at `host` may be sent to a listed node: to no loopback address but its own
    machine's.
    """
    return not is_local(joined_by(entry)) if record.host is None else host == record.host


def bound(record: Record, node: Node, joined_at: str, host: str | None) -> Record:
    """Return the record, which lists `node`, tied to `host` if others join the node at a loopback
    address.
    """
    if record.host is not None or host is None or not is_local(joined_at):
        return record
    if not all(entry.addr == node.addr or _is_at(entry, host) for entry in record.nodes):
        # It was listed beside others before there was this rule.
        return record
    return replace(record, host=host)


def released(record: Record) -> Record:
    """The record tied to no host once no loopback address is listed."""
    if record.host is None or any(map(_has_local, record.nodes)):
        return record
    return replace(record, host=None)


def _is_listed_beside_others(nodes: Sequence[Node], addr: str, joined_by: JoinedBy) -> bool:
    """Whether an address was listed beside those of other machines before there was this rule."""
    addrs = [joined_by(entry) for entry in nodes]
    return addr in addrs and not all(map(is_local, addrs))


def _is_at(entry: Node, host: str) -> bool:
    """Whether a listed node may be on the machine `host`, as far as its addresses tell."""
    others = _other_hosts(entry)
    return not others or host in others


def _other_hosts(entry: Node) -> list[str]:
    """The hosts of a node's addresses that are no loopback addresses."""
    return [host_of(addr) for addr in (entry.addr, entry.raft_addr) if addr is not None and not is_local(addr)]


def _has_local(entry: Node) -> bool:
    return is_local(entry.addr) or (entry.raft_addr is not None and is_local(entry.raft_addr))


def _local_of(nodes: Sequence[Node], joined_by: JoinedBy) -> str:
    """The first loopback address that is listed, if there is one of those that a node is joined
    by.
    """
    joined = [joined_by(node) for node in nodes]
    others = [addr for node in nodes for addr in (node.addr, node.raft_addr) if addr is not None]
    return next((_shown(addr) for addr in (*joined, *others) if is_local(addr)), "the list")


def _shown(addr: str) -> str:
    """An address as a reason phrase may show it (RFC 9112 section 4)."""
    return addr if _MAY_BE_SHOWN.match(addr) else "a loopback address"
