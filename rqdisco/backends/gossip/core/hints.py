"""Hints: registrations answered on the owner's behalf, stored durably here and added once there
(R4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from rqdisco.backends.gossip.core import decide, own_records, writes
from rqdisco.backends.gossip.core.hint_store import StoredHint, added_key, deletion
from rqdisco.backends.gossip.core.messages import Hint
from rqdisco.backends.gossip.core.state import Continuation, State, then
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import NotReady, Undecided
from rqdisco.core.records import Node
from rqdisco.storage.memory import metadata_change

# IDs whose hints are added in one turn of the reactor.
_IDS_PER_PART = 10


def store(state: State, owner: str, discovery_id: str, node: Node, host: str | None, on_done: Continuation) -> None:
    """Store a hint for an owner. The outcome is its number, or StoreUnavailable; `on_done`
    marks it answered or withdraws it.
    """
    if (number := state.hints.reusable(discovery_id, node, host)) is not None:
        state.resume(on_done, number)
        return
    wall_ms = state.now.wall_us // 1000
    number, changes = state.hints.create(owner, discovery_id, node, host, wall_ms)
    state.persist(changes, then(_stored, number, on_done))


def _stored(state: State, outcome: Exception | None, number: int, on_done: Continuation) -> None:
    if outcome is not None:
        state.hints.remove(number)
    elif (stored := state.hints.get(number)) is not None:
        state.hints.put(replace(stored, is_durable=True))
    state.resume(on_done, number if outcome is None else outcome)


def mark_answered(state: State, number: int) -> None:
    """Mark a hint whose node is being answered, so that the owner must add it; delete delivered
    hints that it replaces.
    """
    stored = state.hints.get(number)
    if stored is None:
        return
    state.hints.put(replace(stored, is_answered=True))
    delete(
        state,
        [
            each
            for each in state.hints.of_id(stored.hint.id)
            if each.was_handed_over
            and not each.is_merging
            and each.hint.node == stored.hint.node
            and each.hint.number != number
        ],
    )


def withdraw(state: State, number: int) -> None:
    """Delete a hint whose node was refused after all; it must not cause a listing."""
    stored = state.hints.get(number)
    if stored is not None and not stored.is_answered:
        delete(state, [stored])


def delete(state: State, done: Iterable[StoredHint]) -> None:
    """Delete hints without waiting for the disk; after a crash they count as delivered.

    Refused deletions are retried, or a start long after a node's removal would list it again.
    """
    for each in list(done):
        state.hints.remove(each.hint.number)
        state.persist([deletion(each)], then(_deleted, each))


def _deleted(state: State, outcome: Exception | None, stored: StoredHint) -> None:
    if outcome is not None:
        state.hints.undeleted.append(stored)


def delete_upto(state: State, of: str, upto: int, on_done: Continuation) -> None:
    """Delete the hints stored for an owner up to a number, which it has added. One whose number the
    owner had counted before, since this disk is an older one, is stored again under a new number.
    """
    state.hints.learn_added(of, upto)
    done = [each for each in state.hints.stored_for(of, upto) if not each.is_merging]
    if not done:
        state.resume(on_done, None)
        return
    changes, renumbered = [deletion(each) for each in done], []
    for each in done:
        if state.hints.is_too_low(each):
            state.hints.put(replace(each, is_merging=True))
            hint, wall_ms = each.hint, state.now.wall_us // 1000
            number, stored = state.hints.create(each.owner, hint.id, hint.node, hint.host, wall_ms)
            renumbered.append(number)
            changes += stored
    state.persist(changes, then(_delivered, tuple(done), tuple(renumbered), on_done))


def _delivered(
    state: State,
    outcome: Exception | None,
    done: Sequence[StoredHint],
    renumbered: Sequence[int],
    on_done: Continuation,
) -> None:
    for number in renumbered:
        if outcome is not None:
            state.hints.remove(number)
        elif (stored := state.hints.get(number)) is not None:
            state.hints.put(replace(stored, is_durable=True, is_answered=True))
    for each in done:
        if outcome is None:
            state.hints.remove(each.hint.number)
        elif state.hints.get(each.hint.number) is not None:
            state.hints.put(each)
    state.resume(on_done, outcome)


def merge_all(state: State) -> None:
    """Add all registrations answered here before this daemon was ready, in parts."""
    if state.hints.count:
        _merge_part(state, None, state.hints.ids(state.own), 0)


def _merge_part(state: State, _: None, ids: Sequence[str], begin: int) -> None:
    end = begin + _IDS_PER_PART
    for discovery_id in ids[begin:end]:
        with suppress(Undecided):
            own_records.merge_hints(state, discovery_id)
    if end < len(ids):
        state.resume_soon(then(_merge_part, ids, end))


def retry_deletions(state: State) -> None:
    """Retry the deletions that the disk refused."""
    undeleted, state.hints.undeleted = state.hints.undeleted, []
    delete(state, undeleted)


def add(state: State, sender: str, of: str, hints: Sequence[Hint], on_done: Continuation) -> None:
    """Add the hints that `sender` stored for owner `of`, each once, even if repeated. Raises
    Undecided, NotReady. The outcome is the number up to which all are durably added, or
    StoreUnavailable.
    """
    key = added_key(sender, of)
    before = state.hints.added.get(key, 0)
    new = [hint for hint in hints if hint.number > before]
    if not new:
        writes.flush(state, then(_added, before, on_done))
        return
    if state.members.current_owner(of) != state.own:
        raise Undecided("the members do not agree on the owner of these IDs")
    if (reason := decide.objection(state)) is not None:
        # The successor may have these IDs already, and has to add the nodes.
        raise NotReady(reason)
    changes = []
    own = [hint for hint in new if own_records.may_add_hint(state, hint.id)]
    for hint in own:
        decide.check_no_grant(state, hint.id)
        # Raises before anything is added.
        own_records.load_own(state, hint.id)
    for hint in own:
        changes += own_records.add_node(state, own_records.load_own(state, hint.id), hint.node, hint.host)
    upto = new[-1].number
    # Atomic with the changes: a hint added twice could restore a node that was removed.
    changes.append(metadata_change(Metadata(id=key, owner=of, number=upto)))
    state.hints.added[key] = upto
    writes.write(state, changes, then(_added_new, sender, of, before, len(new), upto, on_done))


def _added(state: State, outcome: Exception | None, upto: int, on_done: Continuation) -> None:
    state.resume(on_done, upto if outcome is None else outcome)


def _added_new(
    state: State,
    outcome: Exception | None,
    sender: str,
    of: str,
    before: int,
    count: int,
    upto: int,
    on_done: Continuation,
) -> None:
    if outcome is None:
        state.log("info", "registrations from elsewhere added", sender=sender, count=count)
    else:
        # The failed write discards all that was built on it.
        key = added_key(sender, of)
        state.hints.added[key] = min(state.hints.added.get(key, 0), before)
    state.resume(on_done, upto if outcome is None else outcome)
