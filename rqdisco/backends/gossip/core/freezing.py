"""Freeze the store for a migration: nothing is decided until it is thawed."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import grants, inputs, replies, writes
from rqdisco.backends.gossip.core.replies import continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, State, then
from rqdisco.core import errors
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable

_FROZEN = "!frozen"


def freeze(state: State, request: ClientRequest, command: inputs.FreezeStore) -> None:
    """See `Freezable.freeze`."""
    before, reason = state.frozen, command.reason
    if before not in (None, reason):
        raise errors.AlreadyFrozen(str(before))
    # From here on nothing is decided, so what was decided before is written before this.
    state.freezing.append(reason)
    on_done = then(_written, reason, continue_with(_frozen_on_disk, request))
    writes.write_metadata(state, [_frozen(state, reason)], on_done)


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
    writes.write_metadata(state, [_frozen(state, "")], on_done)


def _written(state: State, outcome: StoreUnavailable | None, reason: str | None, on_done: Continuation) -> None:
    """Follow the disk, whether the client still waits or not; then continue with its request."""
    if reason is not None:
        state.freezing.remove(reason)
    if outcome is None:
        state.frozen_on_disk = reason
    state.resume(on_done, outcome)


def _frozen(state: State, reason: str) -> Metadata:
    return Metadata(id=_FROZEN, owner=state.own, content=reason)


def frozen_reason(metadata: Sequence[Metadata], own: str) -> str | None:
    """Return the reason for which this daemon was frozen, None if it is not."""
    stored = [each.content for each in metadata if each.id == _FROZEN and each.owner == own]
    return next(filter(None, stored), None)
