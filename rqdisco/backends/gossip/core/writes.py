"""Write changes to the disk. Changes of own records are sent to peers at the same time (R6)."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import decide, pushes
from rqdisco.backends.gossip.core.state import Continuation, State, then
from rqdisco.core.codec import Metadata
from rqdisco.storage.memory import Change, metadata_change

# Prefix of the key of the marker that an earlier start of this daemon did not recover all.
BEHIND = "!behind/"


def write(state: State, changes: Sequence[Change], on_done: Continuation) -> None:
    """Write changes that are in the store, all or none. The outcome of `on_done` is None, or
    StoreUnavailable.
    """
    if not state.own_writes.select(changes):
        state.persist(changes, on_done)
        return
    own, cursors = state.own_writes, state.cursors
    before, may_correct = own.reserving, decide.is_ready(state)
    may_send = state.disk_refuses is None
    published, extra = own.begin(changes, cursors.own_cursor, may_send=may_send, may_correct=may_correct)
    for change in published:
        cursors.publish(change)
    number = state.persist([*changes, *extra, *_marker_before_write(state)], on_done)
    if own.reserving != before:
        state.reservations[number] = own.reserving
    pushes.push(state)


def correct_refused(state: State) -> None:
    """Send peers the true state of records they received and this disk then refused. What the disk
    refuses again is left to the next call.
    """
    keys = state.own_writes.to_correct
    if not keys or state.is_correcting:
        return
    changes = state.own_writes.correct(keys, state.next_version())
    if not changes:
        state.own_writes.corrected(keys)
        return
    state.is_correcting = True
    write(state, changes, then(_corrected, tuple(keys)))


def _corrected(state: State, outcome: Exception | None, keys: tuple[bytes, ...]) -> None:
    state.is_correcting = False
    if outcome is None:
        state.own_writes.corrected(keys)


def write_metadata(state: State, metadata: Sequence[Metadata], on_done: Continuation) -> None:
    """Write metadata, then resume `on_done`."""
    state.persist([metadata_change(each) for each in metadata], on_done)


def write_watermarks(state: State, watermarks: Sequence[Metadata], on_done: Continuation) -> None:
    """Write expiry watermarks, which count once they are durable, then resume `on_done`."""
    write_metadata(state, watermarks, then(_watermarks_written, watermarks, on_done))


def _watermarks_written(
    state: State, outcome: Exception | None, watermarks: Sequence[Metadata], on_done: Continuation
) -> None:
    if outcome is None:
        for watermark in watermarks:
            state.watermarks.learn(watermark)
    state.resume(on_done, outcome)


def flush(state: State, on_done: Continuation) -> None:
    """Resume `on_done` once everything put so far is durable."""
    state.persist((), on_done)


def behind_marker(state: State) -> Metadata:
    """Return the marker on the disk: records above the version in it prove nothing (R8)."""
    return Metadata(id=BEHIND + state.own, owner=state.own, number=state.trusted_upto, content="behind")


def _marker_before_write(state: State) -> list[Change]:
    """Return the marker to write with own changes before all peers were contacted: they prove
    nothing if this daemon restarts by then.
    """
    if decide.is_ready(state):
        return []
    state.may_have_marker = True
    return [metadata_change(behind_marker(state))]
