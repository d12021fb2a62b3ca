"""Commands about the leader record, which rqlite 7 and later keep by consul-kv: leader show, set,
clear.
"""

from __future__ import annotations

from rqdisco.cli.app import DONE, App, Failed, Misused
from rqdisco.cli.claims import describe_claim
from rqdisco.client import LeaderValue

CLEAR_MEANS = (
    "stop all nodes of {id} before its leader record is cleared: a running leader puts it back, and nodes that wait to"
    " join it would wait for ever. Then also remove its nodes (`rqdisco reset {id}` does both): while any is listed"
    " nobody is told to bootstrap"
)
CLAIM_MEANS = (
    "a node claimed to lead under {id}, and the daemon's log names it: stop that node for good, or wipe its data"
    " directory, before its claim is ended. It may have bootstrapped a cluster that it could not report, and the next"
    " node that claims bootstraps another one"
)


async def show(app: App, discovery_id: str) -> int:
    """Print the leader record: Raft address, HTTP address, node ID, index, and whether the node
    reported itself.
    """
    document = await app.client.get(discovery_id)
    leader = document.leader
    if leader is None:
        claim = "" if document.claim is None else f" yet: {describe_claim(document.claim)}"
        raise Failed(f"{discovery_id} has no leader record{claim}")
    state = "reported" if leader.reported else "claimed"
    columns = ("RAFT ADDRESS", "HTTP ADDRESS", "NODE ID", "INDEX", "STATE")
    row = (leader.addr, leader.api_addr or "-", leader.id or "-", str(leader.index), state)
    app.screen.table(f"leader of {discovery_id}", columns, [row])
    return DONE


async def put(app: App, discovery_id: str, value: LeaderValue, cas: int | None) -> int:
    """Set the leader record."""
    if not await app.client.set_leader(discovery_id, value, cas):
        raise Failed(f"not set: {await _obstacle(app, discovery_id, cas)}")
    return DONE


async def clear(app: App, discovery_id: str, cas: int | None, *, sure: bool) -> int:
    """Delete the leader record, or end a claim whose node has not reported itself."""
    document = await app.client.get(discovery_id)
    if document.leader is None and document.claim is None:
        app.screen.say(f"{discovery_id} has no leader record")
        return DONE
    means = (CLEAR_MEANS if document.claim is None else CLAIM_MEANS).format(id=discovery_id)
    if not sure:
        raise Misused(f"{means}; say --yes if you did")
    app.screen.say(means)
    if not await app.client.clear_leader(discovery_id, cas):
        raise Failed(f"not cleared: {await _obstacle(app, discovery_id, cas)}")
    return DONE


async def _obstacle(app: App, discovery_id: str, cas: int | None) -> str:
    """Why a change at the index `cas` was refused."""
    record = await app.client.leader(discovery_id)
    if record is not None:
        return f"the index is {record.index}, not {cas}"
    if cas:
        return f"there is no leader record, its index is 0, not {cas}"
    claim = (await app.client.get(discovery_id)).claim
    return "nodes are registered, and one of them may lead" if claim is None else describe_claim(claim)
