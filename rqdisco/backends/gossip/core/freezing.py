"""Freeze the store for a migration: nothing is decided until it is thawed."""

from __future__ import annotations

from rqdisco.backends.gossip.core import grants, inputs, replies, writes
from rqdisco.backends.gossip.core.replies import continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, State, then
from rqdisco.core import errors
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.freezes import freeze_metadata


def freeze(state: State, request: ClientRequest, command: inputs.FreezeStore) -> None:
    """See `Freezable.freeze`."""
    before, reason = state.frozen, command.reason
    if before not in (None, reason):
        raise errors.AlreadyFrozen(str(before))
    # From here on nothing is decided, so what was decided before is written before this.
    state.freezing.append(reason)
    on_done = then(_written, reason, continue_with(_frozen_on_disk, request))
    writes.write_metadata(state, [freeze_metadata(state.own, reason)], on_done)


def _frozen_on_disk(state: State, request: ClientRequest, _: None) -> None:
    _await_grants(state, request, None, sorted(state.pending_grants))


def _await_grants(state: State, request: ClientRequest, _: None, left: list[str]) -> None:
    while left and not grants.wait(state, left[0], continue_with(_await_grants, request, left)):
        left = left[1:]
    if not left:
        writes.flush(state, continue_with(replies.reply, request))


def thaw(state: State, request: ClientRequest, command: inputs.ThawStore) -> None:
    """See `Freezable.thaw`."""
    on_done = then(_written, None, continue_with(replies.reply, request))
    writes.write_metadata(state, [freeze_metadata(state.own, None)], on_done)


def _written(state: State, outcome: StoreUnavailable | None, reason: str | None, on_done: Continuation) -> None:
    """Follow the disk, whether the client still waits or not; then continue with its request."""
    if reason is not None:
        state.freezing.remove(reason)
    if outcome is None:
        state.frozen_on_disk = reason
    state.resume(on_done, outcome)
