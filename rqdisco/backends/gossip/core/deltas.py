"""Apply what peers hold of their records, and pull what is missing, page by page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rqdisco.backends.gossip.core import contacts, convergence, writes
from rqdisco.backends.gossip.core.messages import Delta, Page, Pull
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerError
from rqdisco.backends.gossip.core.state import Continuation, State, then
from rqdisco.core import codec
from rqdisco.core.codec import Malformed

PAGE_SECONDS = 5.0
Apply = Callable[[State, Delta, Continuation], None]


def apply(state: State, delta: Delta, on_done: Continuation) -> None:
    """Apply a delta of another owner. The outcome is None once it is durable; BadMessage,
    StoreUnavailable.
    """
    try:
        applied = state.cursors.apply(delta)
    except Malformed as error:
        state.cursors.rollback()
        state.resume(on_done, BadMessage(str(error)))
        return
    for discovery_id in applied.conflicts:
        state.log("error", "conflicting records of one ID", discovery_id=discovery_id)
    if applied.changes:
        state.persist(applied.changes, then(_applied, delta.owner, applied.reached, on_done))
    else:
        # Its records may be known, and not durable yet.
        writes.flush(state, on_done)


def _applied(state: State, outcome: Exception | None, owner: str, reached: int, on_done: Continuation) -> None:
    if outcome is not None:
        state.cursors.rollback()
    elif reached:
        state.cursors.commit(owner, reached)
        convergence.update(state)
    state.resume(on_done, outcome)


class PullJob(msgspec.Struct, frozen=True):
    """A pull from the peer `key`: `apply` is what happens to each page, `upto` the cursor to reach;
    None also pulls what lies beyond a gap at the peer. The outcome of `on_done` is None, a PeerError or
    StoreUnavailable.
    """

    key: int
    on_done: Continuation
    apply: Apply = apply
    upto: int | None = None


def pull(state: State, pulling: PullJob, message: Pull) -> None:
    """Pull what follows `message.after`, page by page."""
    peer = state.contacts.get(pulling.key)
    if peer is None:
        state.resume(pulling.on_done, PeerError("the peer is gone"))
    else:
        contacts.send(state, peer, "pull", message, PAGE_SECONDS, then(_received, message, pulling))


def _received(state: State, outcome: Page | PeerError, sent: Pull, pulling: PullJob) -> None:
    if isinstance(outcome, PeerError):
        state.resume(pulling.on_done, outcome)
    else:
        pulling.apply(state, outcome.delta, then(_page_applied, sent, outcome, pulling))


def _page_applied(state: State, outcome: Any, sent: Pull, page: Page, pulling: PullJob) -> None:
    delta, upto = page.delta, pulling.upto
    if outcome is not None:
        state.resume(pulling.on_done, outcome)
    elif page.page:
        pull(state, pulling, Pull(owner=sent.owner, after=sent.after, page=page.page, upto=delta.upto))
    else:
        last = max([delta.upto, *(codec.peek_version(codec.split_record(bytes(line))[1]) for line in delta.records)])
        if last <= sent.after or (upto is not None and delta.upto >= upto):
            state.resume(pulling.on_done, None)
        else:
            pull(state, pulling, Pull(owner=sent.owner, after=last))
