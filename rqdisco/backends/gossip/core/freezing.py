"""Freeze the store for a migration: nothing is decided until it is thawed."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import grants, inputs, requests, writes
from rqdisco.backends.gossip.core.state import ClientRequest, State, then
from rqdisco.core import errors
from rqdisco.core.codec import Metadata

_FROZEN = "!frozen"


def freeze(state: State, request: ClientRequest, command: inputs.FreezeStore) -> None:
    """See `Freezable.freeze`."""
    before, reason = state.frozen, command.reason
    if before not in (None, reason):
        raise errors.AlreadyFrozen(str(before))
    state.frozen = reason
    # From here on nothing is decided, so what was decided before is written before this.
    writes.write_metadata(state, [_frozen(state, reason)], then(_freeze_written, request.number, before, reason))


def _freeze_written(state: State, outcome: Exception | None, number: int, before: str | None, reason: str) -> None:
    if outcome is not None:
        state.frozen = before
        requests.answer(state, outcome, number, None)
        return
    # A thaw that was written before this may have ended meanwhile.
    state.frozen = reason
    _await_grants(state, None, number, sorted(state.pending_grants))


def _await_grants(state: State, outcome: Exception | None, number: int, left: list[str]) -> None:
    if outcome is not None:
        requests.answer(state, outcome, number, None)
        return
    while left and not grants.wait(state, left[0], then(_await_grants, number, left)):
        left = left[1:]
    if not left:
        writes.flush(state, then(requests.answer, number, None))


def thaw(state: State, request: ClientRequest, command: inputs.ThawStore) -> None:
    """See `Freezable.thaw`."""
    writes.write_metadata(state, [_frozen(state, "")], then(_thawed, request.number))


def _thawed(state: State, outcome: Exception | None, number: int) -> None:
    if outcome is None:
        state.frozen = None
    requests.answer(state, outcome, number, None)


def _frozen(state: State, reason: str) -> Metadata:
    return Metadata(id=_FROZEN, owner=state.own, content=reason)


def frozen_reason(metadata: Sequence[Metadata], own: str) -> str | None:
    """Return the reason for which this daemon was frozen, None if it is not."""
    stored = [each.content for each in metadata if each.id == _FROZEN and each.owner == own]
    return next(filter(None, stored), None)
