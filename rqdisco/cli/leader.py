"""Commands about the leader record, which rqlite 7 and later keep by consul-kv: leader show, set, clear."""

from __future__ import annotations

from rqdisco.cli.app import DONE, App, Failed, Misused
from rqdisco.client import LeaderValue

CLEAR_MEANS = (
    "stop all nodes of {id} before its leader record is cleared: a running leader puts it back, and nodes that wait to"
    " join it would wait for ever. Then also remove its nodes (`rqdisco reset {id}` does both): while any is listed"
    " nobody is told that it is alone"
)


async def show(app: App, discovery_id: str) -> int:
    """Print the leader record: Raft address, HTTP address, node ID, index, and whether the node reported itself."""
    leader = (await app.client.get(discovery_id)).leader
    if leader is None:
        raise Failed(f"{discovery_id} has no leader record")
    state = "reported" if leader.reported else "claimed"
    columns = ("RAFT ADDRESS", "HTTP ADDRESS", "NODE ID", "INDEX", "STATE")
    row = (leader.addr, leader.api_addr or "-", leader.id or "-", str(leader.index), state)
    app.screen.table(f"leader of {discovery_id}", columns, [row])
    return DONE


async def put(app: App, discovery_id: str, value: LeaderValue, cas: int | None) -> int:
    """Set the leader record."""
    if not await app.client.set_leader(discovery_id, value, cas):
        raise Failed(f"not set: {await _index(app, discovery_id)}, not {cas}")
    return DONE


async def clear(app: App, discovery_id: str, cas: int | None, *, sure: bool) -> int:
    """Delete the leader record."""
    if not sure:
        raise Misused(f"{CLEAR_MEANS.format(id=discovery_id)}; say --yes if you did")
    if (await app.client.get(discovery_id)).leader is None:
        app.screen.say(f"{discovery_id} has no leader record")
        return DONE
    app.screen.say(CLEAR_MEANS.format(id=discovery_id))
    if not await app.client.clear_leader(discovery_id, cas):
        raise Failed(f"not cleared: {await _index(app, discovery_id)}, not {cas}")
    return DONE


async def _index(app: App, discovery_id: str) -> str:
    record = await app.client.leader(discovery_id)
    return "there is no leader record, its index is 0" if record is None else f"the index is {record.index}"
