"""Read and change the records that this daemon decides about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from rqdisco.backends.gossip.core import decide, pushes, queries, writes
from rqdisco.backends.gossip.core.hint_store import StoredHint, added_key, deletion
from rqdisco.backends.gossip.core.state import Continuation, State, then
from rqdisco.core import decisions, records, transitions
from rqdisco.core.errors import LoopbackConflict, NoSuchID, TooManyNodes, Undecided
from rqdisco.core.records import Node, Record
from rqdisco.storage.memory import Change


def load_own(state: State, discovery_id: str, *, as_stored: bool = False) -> Record | None:
    """Merge pending hints into the record, then return it as this daemon's own, None if there is
    none. `as_stored` omits normalization, so that the record equals the one stored under its
    version, here and at peers.

    Raises NotReady if the daemon may not decide about the ID now, known or not: it may have to
    recover it first (R8). Raises Undecided.
    """
    decide.check_may_change(state, discovery_id)
    record = state.store.newest(discovery_id)
    if record is None:
        return None
    if merge_hints(state, discovery_id):
        record = state.store.newest(discovery_id) or record
    record = record if record.owner == state.own else viewed_as_own(state, record)
    return record if as_stored else queries.normalized(state, record)


def load_to_change(state: State, discovery_id: str) -> Record | None:
    """Return a record as `load_own` does. Raises Frozen, too."""
    decide.check_frozen(state)
    return load_own(state, discovery_id)


def merge_hints(state: State, discovery_id: str) -> bool:
    """Add what this daemon answered for an own ID before it was ready; report whether there was
    something. The record is changed on return, so that later decisions build on it.

    Raises Undecided.
    """
    merging = state.hints.unmerged(discovery_id, state.own) if state.hints.count else []
    if not merging:
        return False
    decide.check_no_grant(state, discovery_id)
    changes = []
    for each in merging:
        # A disk of an earlier release may retain a hint that was added already.
        if may_add_hint(state, discovery_id) and each.hint.number > state.hints.added.get(
            added_key(state.own, each.owner), 0
        ):
            record = state.store.newest(discovery_id)
            if record is not None:
                record = record if record.owner == state.own else viewed_as_own(state, record)
                record = queries.normalized(state, record)
            changes += add_node(state, record, each.hint.node, each.hint.host)
    for each in merging:
        state.hints.put(replace(each, is_merging=True))
    writes.write(state, [*changes, *map(deletion, merging)], then(_merged, tuple(merging)))
    return True


def may_add_hint(state: State, discovery_id: str) -> bool:
    """Report whether an ID is one of this daemon, or unknown. Another's record must not become this
    daemon's because somebody sent a hint for it.
    """
    record = state.store.newest(discovery_id)
    if record is None or queries.owner(state, record) == state.own:
        return True
    state.log("warn", "node registered at another daemon not added: the ID is not ours", discovery_id=discovery_id)
    return False


def _merged(state: State, outcome: Exception | None, merging: Sequence[StoredHint]) -> None:
    if outcome is None:
        state.log("info", "own hints added", discovery_id=merging[0].hint.id, count=len(merging))
    for each in merging:
        if outcome is None:
            state.hints.remove(each.hint.number)
        elif (stored := state.hints.get(each.hint.number)) is not None:
            # A failed write undoes all that was built on it; the merge is retried later.
            state.hints.put(replace(stored, is_merging=False))


def viewed_as_own(state: State, record: Record) -> Record:
    """Return another owner's record as if it were this daemon's: with the version that it has, and
    not stored. It never grants if that owner was lost (R7).
    """
    former = state.members.get(record.owner)
    is_lost = former is None or former.state != "drained" or state.members.has_lost(record.owner)
    return records.with_new_owner(record, state.own, version=record.version, lost=is_lost)


def with_this_owner(state: State, record: Record, *, lost: bool) -> Record:
    """Return the record as this daemon's own, under a new version, to be stored: its owner handed it
    over or was lost (R7).
    """
    version = state.next_version()
    record = records.with_new_owner(record, state.own, version=version, lost=lost)
    return decisions.with_claim_window(record, state.now.moment)


def create(state: State, discovery_id: str, version: int) -> Record:
    """Return an empty record for a new ID. Raises TooManyIDs, Undecided, Frozen."""
    decide.check_creation(state)
    if not state.is_ready:
        # What is created now is exempt from the wait for members.
        state.created_before_ready.add(discovery_id)
    return Record(id=discovery_id, owner=state.own, version=version, created_at=state.now.wall_us)


def create_implicitly(state: State, discovery_id: str) -> Record:
    """Return a record with version 0 for a name that a claim or report creates, and for which
    `load_own` found none. Raises NoSuchID, TooManyIDs, Undecided, Frozen.
    """
    if not state.config.limits.create_named:
        raise NoSuchID(discovery_id)
    return create(state, discovery_id, 0)


def save(state: State, before: Record | None, after: Record, on_done: Continuation, version: int | None = None) -> None:
    """Write `after` under a new version, or `version`, unless it is `before`. The outcome is the
    record once it is durable, and a peer has acknowledged it, a second has passed or no peer is up;
    or StoreUnavailable.
    """
    if after is before:
        flush(state, after.id, then(_flushed, after, on_done))
        return
    after = replace(after, version=state.next_version() if version is None else version)
    writes.write(state, [state.store.put(after)], then(_saved, after, on_done))


def flush(state: State, discovery_id: str, on_done: Continuation) -> None:
    """Resume `on_done` once the newest record, which an answer depends on, is durable (R6)."""
    if state.store.is_pending(discovery_id):
        writes.flush(state, on_done)
    else:
        state.resume(on_done, None)


def _flushed(state: State, outcome: Any, record: Record, on_done: Continuation) -> None:
    state.resume(on_done, outcome if outcome is not None else record)


def _saved(state: State, outcome: Any, record: Record, on_done: Continuation) -> None:
    if outcome is not None:
        state.resume(on_done, outcome)
    else:
        pushes.await_replication(state, record.version, then(_replicated, record, on_done), is_grant=False)


def _replicated(state: State, _: Undecided | None, record: Record, on_done: Continuation) -> None:
    state.resume(on_done, record)


def add_node(state: State, record: Record | None, node: Node, host: str | None) -> list[Change]:
    """List a node that was answered on the owner's behalf (R4); return the change to write, if any.

    Leaves out a node for which there is no room, no record or no permission (R5d).
    """
    if record is None:
        return []
    try:
        after = transitions.add(record, node, host=host, max_nodes=state.config.limits.max_nodes)
    except (TooManyNodes, LoopbackConflict) as refusal:
        text = "node registered at another daemon not added: {why}"
        state.log("warn", text, why=str(refusal), addr=node.addr, discovery_id=record.id)
        return []
    if after is record:
        return []
    if record.was_emptied and not record.nodes:
        state.log(
            "warn",
            "node registered at another daemon listed, though the list was emptied: if more follow and no cluster"
            " forms, stop all nodes of the ID and reset it",
            addr=node.addr,
            discovery_id=record.id,
        )
    return [state.store.put(replace(after, version=state.next_version()))]
