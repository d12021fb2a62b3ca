"""Grant a bootstrap or create a name once all members have passed a barrier, where they may know
more than the owner (R5).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from rqdisco.backends.gossip.core import barriers, contacts, decide, grants, inputs, own_records, queries, replies
from rqdisco.backends.gossip.core.replies import continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, GrantInProgress, State, then
from rqdisco.core import errors
from rqdisco.core.ids import is_created_id
from rqdisco.core.records import ClaimOutcome, Record, RegistrationOutcome


def check_own(state: State, discovery_id: str) -> None:
    """Raise Undecided if another daemon became the owner during a wait: two daemons created the name,
    and the record of the other one counts.
    """
    record = state.store.newest(discovery_id)
    if record is not None and queries.owner(state, record) != state.own:
        raise errors.Undecided("another daemon owns this ID")


def may_clash(record: Record) -> bool:
    """Report whether members may have another record of a name, since not all have confirmed it as new."""
    return record.attempted and not is_created_id(record.id)


def ask_all(state: State, request: ClientRequest, _: object) -> None:
    """Ask all members whether a name is new, after any pending grant of it."""
    discovery_id = replies.id_of(request)
    if not grants.wait(state, discovery_id, continue_with(ask_all, request)):
        begin_barrier(state, grants.begin(state, discovery_id, request))


def commit(state: State, pending: GrantInProgress, before: Record, outcome: RegistrationOutcome | ClaimOutcome) -> None:
    """Commit a grant; a registration gets a new version."""
    if isinstance(outcome, RegistrationOutcome):
        outcome = replace(outcome, record=replace(outcome.record, version=state.next_version()))
    grants.commit(state, pending, before, outcome)


def begin_barrier(state: State, pending: GrantInProgress) -> None:
    """Bring all members up to date, then decide about the newest record (R5)."""
    own_records.flush(state, pending.id, _continue_pending(_run_barrier, pending))


def _continue_pending(
    function: Callable[[State, ClientRequest, GrantInProgress], None], pending: GrantInProgress
) -> Continuation:
    """Continue the request of a pending grant, unless its client is gone. An error, as the outcome or
    raised, ends the grant and is the reply.
    """
    return then(_continue, pending.id, pending.request, function)


def _continue(
    state: State,
    outcome: Exception | None,
    discovery_id: str,
    number: int,
    function: Callable[[State, ClientRequest, GrantInProgress], None],
) -> None:
    pending = _pending_of(state, discovery_id, number)
    if pending is None:
        return
    request = state.requests[number]
    try:
        if outcome is not None:
            raise outcome
        function(state, request, pending)
    except errors.REFUSALS as error:
        grants.end(state, pending)
        replies.fail(state, request, error)
    except Exception:
        # A bug, which the caller logs. Others may decide, unless a grant is decided already.
        if pending.before is None:
            grants.end(state, pending)
            replies.fail(state, request, errors.Undecided("internal error"))
        raise


def _run_barrier(state: State, request: ClientRequest, pending: GrantInProgress) -> None:
    check_own(state, pending.id)
    stored = own_records.load_own(state, pending.id, as_stored=True)
    assert stored is not None
    purpose = "create a name" if isinstance(request.command, inputs.CreateNamed) else "grant a bootstrap"
    barriers.run(state, stored, purpose, _continue_pending(_decide_again, pending))


def _decide_again(state: State, request: ClientRequest, pending: GrantInProgress) -> None:
    check_own(state, pending.id)
    known, command = own_records.load_to_change(state, pending.id), request.command
    assert known is not None
    record = replace(known, attempted=False) if may_clash(known) else known
    if isinstance(command, inputs.Register):
        outcome = decide.register(state, record, command.node, command.host)
        if outcome.bootstrap == "granted":
            commit(state, pending, record, outcome)
        else:
            # The change is put before others may decide.
            own_records.save(state, known, outcome.record, continue_with(replies.reply_saved, request, outcome))
            grants.end(state, pending)
    elif isinstance(command, inputs.Claim):
        claim = decide.claim(state, record, command.put, command.host)
        if claim.won:
            commit(state, pending, record, claim)
        else:
            grants.end(state, pending)
            replies.reply_once_durable(state, request, record.id, claim)
    else:
        own_records.save(state, known, record, continue_with(replies.reply_saved, request, None))
        grants.end(state, pending)


def _pending_of(state: State, discovery_id: str, number: int) -> GrantInProgress | None:
    """Return the pending grant of a request, None if its client is gone; then others may decide."""
    pending = state.pending_grants.get(discovery_id)
    if pending is None or pending.request != number:
        return None
    if number in state.requests:
        return pending
    grants.end(state, pending)
    return None


def abandon(state: State, request: ClientRequest) -> None:
    """Stop working for a client that is gone. A grant that is decided already is revoked."""
    state.requests.pop(request.number, None)
    if request.sent:
        contacts.abandon(state, request.sent)
    discovery_id = getattr(request.command, "id", "")
    pending = state.pending_grants.get(discovery_id)
    if pending is None or pending.request != request.number:
        return
    if discovery_id in state.barriers:
        barriers.abandon(state, discovery_id)
        grants.end(state, pending)
    else:
        grants.abandon(state, pending)
