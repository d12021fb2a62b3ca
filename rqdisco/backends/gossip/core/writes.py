"""Write changes to the disk. Changes of own records are sent to peers at the same time (R6)."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import decide, pushes
from rqdisco.backends.gossip.core.state import State, Then, then
from rqdisco.core.codec import Metadata
from rqdisco.storage.memory import Change, metadata_change

# Prefix of the key of the marker that an earlier start of this daemon did not recover all.
BEHIND = "!behind/"


def write(state: State, changes: Sequence[Change], go_on: Then) -> None:
    """Write changes that are in the store, all or none, and go on; the outcome is None, or
    StoreUnavailable.
    """
    if not state.cursors.own_changes(changes):
        state.persist(changes, go_on)
        return
    before = state.cursors.reserving
    extra = [
        *state.cursors.before_write(changes, may_send=state.disk_refuses is None, may_correct=decide.is_ready(state)),
        *_marker_before_write(state),
    ]
    number = state.persist([*changes, *extra], go_on)
    if state.cursors.reserving != before:
        state.reservations[number] = state.cursors.reserving
    pushes.push(state)


def write_metadata(state: State, metadata: Sequence[Metadata], go_on: Then) -> None:
    """Write metadata and go on."""
    state.persist([metadata_change(each) for each in metadata], go_on)


def write_watermarks(state: State, watermarks: Sequence[Metadata], go_on: Then) -> None:
    """Write expiry watermarks, which count once they are durable, and go on."""
    write_metadata(state, watermarks, then(_watermarks_written, watermarks, go_on))


def _watermarks_written(state: State, outcome: Exception | None, watermarks: Sequence[Metadata], go_on: Then) -> None:
    if outcome is None:
        for watermark in watermarks:
            state.watermarks.learn(watermark)
    state.go_on(go_on, outcome)


def flush(state: State, go_on: Then) -> None:
    """Go on once everything put so far is durable."""
    state.persist((), go_on)


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
