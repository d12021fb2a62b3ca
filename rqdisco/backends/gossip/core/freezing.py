"""Freeze the store for a migration: nothing is decided until it is thawed."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import grants, inputs, replies, writes
from rqdisco.backends.gossip.core.replies import continue_anyway, continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, State
from rqdisco.core import errors
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable

_FROZEN = "!frozen"


def freeze(state: State, request: ClientRequest, command: inputs.FreezeStore) -> None:
    """See `Freezable.freeze`."""
    before, reason = state.frozen, command.reason
    if before not in (None, reason):
        raise errors.AlreadyFrozen(str(before))
    state.frozen = reason
    # From here on nothing is decided, so what was decided before is written before this.
    on_done = continue_anyway(_freeze_written, request, before, reason)
    writes.write_metadata(state, [_frozen(state, reason)], on_done)


def _freeze_written(
    state: State, request: ClientRequest, outcome: StoreUnavailable | None, before: str | None, reason: str
) -> None:
    if outcome is not None:
        state.frozen = before
        raise outcome
    # A thaw that was written before this may have ended meanwhile.
    state.frozen = reason
    _await_grants(state, request, None, sorted(state.pending_grants))


def _await_grants(state: State, request: ClientRequest, _: None, left: list[str]) -> None:
    while left and not grants.wait(state, left[0], continue_with(_await_grants, request, left)):
        left = left[1:]
    if not left:
        writes.flush(state, continue_with(replies.reply, request))


def thaw(state: State, request: ClientRequest, command: inputs.ThawStore) -> None:
    """See `Freezable.thaw`."""
    writes.write_metadata(state, [_frozen(state, "")], continue_with(_thawed, request))


def _thawed(state: State, request: ClientRequest, _: None) -> None:
    state.frozen = None
    replies.reply(state, request, None)


def _frozen(state: State, reason: str) -> Metadata:
    return Metadata(id=_FROZEN, owner=state.own, content=reason)


def frozen_reason(metadata: Sequence[Metadata], own: str) -> str | None:
    """Return the reason for which this daemon was frozen, None if it is not."""
    stored = [each.content for each in metadata if each.id == _FROZEN and each.owner == own]
    return next(filter(None, stored), None)
