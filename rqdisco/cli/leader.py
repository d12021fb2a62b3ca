"""Commands on the leader key that rqlite 7 and later write in consul-kv mode: leader show, set,
clear.
"""

from __future__ import annotations

from rqdisco.cli.app import DONE, App, CommandFailed, UsageError
from rqdisco.cli.claims import describe_claim
from rqdisco.client import Document, LeaderValue
from rqdisco.core.plurals import counted

CLEAR_WARNING = (
    "stop all nodes of {id} before clearing its leader key: a running leader writes it again, and nodes waiting to"
    " join would wait forever. Then remove its nodes too (`rqdisco reset {id}` does both): while any node is listed,"
    " no node is told to bootstrap"
)
CLAIM_WARNING = (
    "a node claimed to lead under {id}, and the daemon's log names it: stop that node for good, or wipe its data"
    " directory, before ending its claim. It may have bootstrapped a cluster that it could not report, and the next"
    " node that claims to lead bootstraps another one"
)


async def show(app: App, discovery_id: str, *, as_json: bool) -> int:
    """Print the leader key: Raft address, HTTP address, node ID, index, and whether the leader
    has reported.
    """
    document = await app.client.get(discovery_id)
    leader = document.leader
    if leader is None:
        claim = "" if document.claim is None else f" yet: {describe_claim(document.claim)}"
        raise CommandFailed(f"{discovery_id} has no leader key{claim}")
    if as_json:
        app.output.document(leader)
        return DONE
    state = "reported" if leader.reported else "claimed"
    columns = ("RAFT ADDRESS", "HTTP ADDRESS", "NODE ID", "INDEX", "STATE")
    row = (leader.addr, leader.api_addr or "-", leader.id or "-", str(leader.index), state)
    app.output.table(f"leader of {discovery_id}", columns, [row])
    return DONE


async def set_record(app: App, discovery_id: str, value: LeaderValue, cas: int | None) -> int:
    """Set the leader key."""
    if not await app.client.set_leader(discovery_id, value, cas):
        raise CommandFailed(f"not set: {await _cas_failure(app, discovery_id, cas)}")
    return DONE


async def clear(app: App, discovery_id: str, cas: int | None, *, yes: bool) -> int:
    """Delete the leader key, or end a claim whose node has not reported."""
    document = await app.client.get(discovery_id)
    if document.leader is None and document.claim is None:
        app.output.message(f"{discovery_id} has no leader key")
        return DONE
    warning = (CLEAR_WARNING if document.claim is None else CLAIM_WARNING).format(id=discovery_id)
    if not yes:
        raise UsageError(f"{warning}; confirm with --yes")
    if not await app.client.clear_leader(discovery_id, cas):
        raise CommandFailed(f"not cleared: {await _cas_failure(app, discovery_id, cas)}")
    app.output.message(_cleared(document))
    return DONE


def _cleared(before: Document) -> str:
    """Say what was removed, and what is left."""
    what = (
        "ended the unreported claim" if before.leader is None else f"removed the leader key ({before.leader.addr} led)"
    )
    if not before.nodes:
        return f"{before.disco_id}: {what}"
    nodes = counted(len(before.nodes), "node stays", "nodes stay")
    return f"{before.disco_id}: {what}; {nodes} listed, so no node is told to bootstrap (`rqdisco reset` removes both)"


async def _cas_failure(app: App, discovery_id: str, cas: int | None) -> str:
    """Return why a change at the index `cas` was refused."""
    record = await app.client.leader(discovery_id)
    if record is not None:
        return f"the index is {record.index}, not {cas}"
    if cas:
        return f"there is no leader key, its index is 0, not {cas}"
    claim = (await app.client.get(discovery_id)).claim
    return "nodes are registered, and one of them may lead" if claim is None else describe_claim(claim)
