"""Execute clients' requests at the owner of their ID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from rqdisco.backends.gossip.core import decide, grant_barriers, grants, inputs, own_records, queries, replies
from rqdisco.backends.gossip.core.calls import RemovalAtOwner
from rqdisco.backends.gossip.core.messages import Outcome
from rqdisco.backends.gossip.core.replies import continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, State
from rqdisco.core import decisions, errors, transitions
from rqdisco.core.exports import to_record
from rqdisco.core.ids import is_created_id, new_id
from rqdisco.core.records import ClaimOutcome, Record


def run(state: State, request: ClientRequest) -> None:
    """Execute a request about an ID of this daemon, after any pending grant of it."""
    discovery_id = replies.id_of(request)
    if request.arrival is None and isinstance(request.command, (inputs.Remove, inputs.ClearLeader)):
        # The disk may still refuse what was decided, and then what is shown is listed again.
        known = (queries.newest(state, discovery_id), queries.shown(state, discovery_id))
        request.arrival = tuple(each for each in known if each is not None)
    is_reading = isinstance(request.command, (inputs.LookUp, inputs.Inspect))
    if not is_reading and grants.wait(state, discovery_id, continue_with(_run_again, request)):
        return
    try:
        _HANDLERS[type(request.command)](state, request, request.command)
    except errors.REFUSALS as error:
        replies.fail(state, request, error)


def _run_again(state: State, request: ClientRequest, _: object) -> None:
    grant_barriers.check_own(state, replies.id_of(request))
    run(state, request)


def create(state: State, request: ClientRequest, command: inputs.Create) -> None:
    """Create an ID. Raises TooManyIDs, Undecided, Frozen."""
    discovery_id = new_id(state.own, lambda _: command.random)
    version = state.next_version()
    record = own_records.create(state, discovery_id, version)
    own_records.save(state, None, record, continue_with(replies.reply_saved, request, None), version)


def _create_named(state: State, request: ClientRequest, command: inputs.CreateNamed) -> None:
    if own_records.load_to_change(state, command.id) is not None:
        # The disk may still refuse it.
        own_records.flush(state, command.id, continue_with(_exists, request))
        return
    _save_new(state, request, own_records.create(state, command.id, 0), continue_with(grant_barriers.ask_all, request))


def _save_new(state: State, request: ClientRequest, record: Record, on_done: Continuation) -> None:
    """Write a record of a new name. Somebody may import the name elsewhere at this moment, so nothing
    is granted under it before all members have this record, and no other one.
    """
    version = state.next_version()
    own_records.save(state, None, replace(record, attempted=True), on_done, version)


def _exists(state: State, request: ClientRequest, _: None) -> None:
    raise errors.IDExists(replies.id_of(request))


def _register(state: State, request: ClientRequest, command: inputs.Register) -> None:
    record = own_records.load_to_change(state, command.id)
    if record is None:
        raise errors.NoSuchID(command.id)
    outcome = decide.register(state, record, command.node, command.host)
    if outcome.bootstrap != "granted":
        own_records.save(state, record, outcome.record, continue_with(replies.reply_saved, request, outcome))
        return
    pending = grants.begin(state, record.id, request)
    if record.was_emptied or record.nodes or grant_barriers.may_clash(record):
        grant_barriers.begin_barrier(state, pending)
    else:
        grant_barriers.commit(state, pending, record, outcome)


def _remove(state: State, request: ClientRequest, command: inputs.Remove) -> None:
    record = own_records.load_to_change(state, command.id)
    if record is None:
        raise errors.NoSuchID(command.id)
    after = decisions.remove(record, request.arrival or (), command.addr)
    result = RemovalAtOwner(record=after, removed=after is not record)
    own_records.save(state, record, after, continue_with(replies.reply_saved, request, result))


def _claim(state: State, request: ClientRequest, command: inputs.Claim) -> None:
    known = own_records.load_to_change(state, command.id)
    if known is None:
        _claim_new(state, request, command.id)
        return
    outcome = decide.claim(state, known, command.put, command.host)
    if not outcome.won:
        replies.reply_once_durable(state, request, known.id, outcome)
    elif outcome.again:
        # No other node was ever sent to this one, so there is nothing to ask peers for (R5c).
        on_done = continue_with(_claimed_again, request, outcome)
        own_records.save(state, known, outcome.record, on_done, outcome.record.version)
    else:
        pending = grants.begin(state, known.id, request)
        if known.was_emptied or grant_barriers.may_clash(known):
            grant_barriers.begin_barrier(state, pending)
        else:
            grant_barriers.commit(state, pending, known, outcome)


def _claim_new(state: State, request: ClientRequest, discovery_id: str) -> None:
    """Create the key that is claimed, then claim it."""
    if is_created_id(discovery_id):
        raise errors.UnknownCreatedID(discovery_id)
    record = own_records.create_implicitly(state, discovery_id)
    _save_new(state, request, record, continue_with(_run_again, request))


def _claimed_again(state: State, request: ClientRequest, record: Record, claim: ClaimOutcome) -> None:
    if (fields := decisions.many_claims(record)) is not None:
        state.log("warn", decisions.MANY_CLAIMS, **fields)
    replies.reply_saved(state, request, record, claim)


def _report(state: State, request: ClientRequest, command: inputs.ReportLeader) -> None:
    known, put = own_records.load_to_change(state, command.id), command.put
    if not decisions.may_report(known, put, command.index):
        replies.reply_once_durable(state, request, command.id, False)
        return
    version = state.next_version()
    record = decisions.reported_first(own_records.create_implicitly(state, command.id)) if known is None else known
    most = state.config.limits.max_nodes
    after = transitions.report(record, put, host=command.host, version=version, max_nodes=most)
    if after is None:
        replies.reply_once_durable(state, request, command.id, False)
    else:
        own_records.save(state, record, after, continue_with(replies.reply_saved, request, True), version)


def _clear_leader(state: State, request: ClientRequest, command: inputs.ClearLeader) -> None:
    record = own_records.load_to_change(state, command.id)
    after, clearing = decisions.clear_leader(record, request.arrival or (), command.index)
    if after is None or after is record:
        replies.reply_once_durable(state, request, command.id, clearing)
    else:
        own_records.save(state, record, after, continue_with(replies.reply_saved, request, clearing))


def _inspect(state: State, request: ClientRequest, command: inputs.Inspect) -> None:
    record = queries.inspect(state, command.id)
    if record is None:
        decide.check_may_change(state, command.id)
        raise errors.NoSuchID(command.id)
    replies.reply(state, request, record)


def _look_up(state: State, request: ClientRequest, command: inputs.LookUp) -> None:
    """Look up at the owner, which must not answer while it may lack earlier decisions (R8)."""
    # This may add registrations answered before this owner was ready.
    own_records.load_own(state, command.id)
    record = queries.inspect(state, command.id)
    if record is None:
        raise errors.NoSuchID(command.id)
    if record.owner != state.own:
        # Being taken over: a peer must not count a grant that is in doubt as answered.
        record = queries.normalized(state, own_records.viewed_as_own(state, record))
    if request.respond_to is None:
        replies.reply(state, request, queries.view(state, record))
    else:
        replies.reply(state, request, Outcome(record=record, listed=tuple(state.hints.nodes(command.id))))


def _adopt(state: State, request: ClientRequest, command: inputs.Adopt) -> None:
    decide.check_frozen(state, command.during)
    transferred, as_own = command.transferred, command.as_own
    known = own_records.load_own(state, transferred.id)
    version = state.next_version()
    owner = state.own if as_own or transferred.owner is None else transferred.owner
    record = to_record(transferred, owner, version=version, max_nodes=state.config.limits.max_nodes)
    record = record if owner == state.own else own_records.viewed_as_own(state, record)
    record = decisions.with_claim_window(record, state.now.moment)
    if known is None:
        decide.check_room(state)
        own_records.save(state, None, record, continue_with(replies.reply_saved, request, True), version)
        return
    after = decisions.import_into(known, record, as_own=as_own, is_migration=command.during is not None)
    if after is not known:
        after = decisions.with_claim_window(after, state.now.moment)
    own_records.save(state, known, after, continue_with(replies.reply_saved, request, after is not known), version)


_HANDLERS: dict[type, Callable[[State, ClientRequest, Any], None]] = {
    inputs.CreateNamed: _create_named,
    inputs.Register: _register,
    inputs.Remove: _remove,
    inputs.Claim: _claim,
    inputs.ReportLeader: _report,
    inputs.ClearLeader: _clear_leader,
    inputs.Inspect: _inspect,
    inputs.LookUp: _look_up,
    inputs.Adopt: _adopt,
}
