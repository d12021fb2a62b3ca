"""Each rule with a switch that turns it off, or a part of it, to prove that the simulator would
notice.

The machine consists of functions of modules: a switch replaces some of them, for all daemons of a
run. A run plays whole clusters, so a switch may also touch the transport and the first state. The
small world has switches of its own (`small_rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from msgspec.structs import replace

from rqdisco.backends.gossip.core import (
    barriers,
    contacts,
    decide,
    exchange,
    grants,
    hints,
    machine,
    own_records,
    pushes,
    queries,
    replies,
    requests,
    routing,
    serving,
    steps,
    takeover,
)
from rqdisco.backends.gossip.core.calls import RemovalAtOwner
from rqdisco.backends.gossip.core.inputs import Register, Remove
from rqdisco.backends.gossip.core.members import Members
from rqdisco.backends.gossip.core.messages import Outcome
from rqdisco.backends.gossip.core.peer_errors import Misdirected
from rqdisco.backends.gossip.core.sessions import Sender, Sessions
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, GrantInProgress, MachineConfig, Peer, State
from rqdisco.backends.gossip.transport.seals import ReplayWindow
from rqdisco.core import host_binding, records, transitions
from rqdisco.core.errors import NotReady, StoreUnavailable, Undecided
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View, view_of


@contextmanager
def without(rule: str) -> Iterator[None]:
    """Turn a rule off; "" stands for none."""
    with pytest.MonkeyPatch.context() as patch:
        if rule:
            _SWITCHES[rule](patch)
        yield


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for a function that does something."""


def _everybody_decides(patch: pytest.MonkeyPatch) -> None:
    def execute_here(state: State, request: ClientRequest, owner: str) -> None:
        requests.run(state, request)

    patch.setattr(routing, "_execute_at", execute_here)
    patch.setattr(own_records, "viewed_as_own", _taken_over_with_grants)


def _taken_over_with_grants(state: State, record: Record) -> Record:
    return records.with_new_owner(record, state.own, version=record.version, lost=False)


def _answer_for_others(patch: pytest.MonkeyPatch) -> None:
    """Whichever daemon is at a URL is taken for the intended one, and handles its messages."""
    identify = contacts._identify

    def identify_anyone(*args: Any) -> None:
        with suppress(Misdirected):
            identify(*args)

    patch.setattr(contacts, "_identify", identify_anyone)
    for verb in ("call", "hints"):
        _receive(patch, verb, lambda message: replace(message, owner=_Anyone()))


def _receive(patch: pytest.MonkeyPatch, verb: str, change: Callable[[Any], Any]) -> None:
    """Change messages of peers on their arrival."""
    handle = serving._HANDLERS[verb]

    def handle_changed(state: State, call: int, sender: Sender, message: Any) -> None:
        handle(state, call, sender, change(message))

    patch.setitem(serving._HANDLERS, verb, handle_changed)


class _Anyone(str):
    """An incarnation that equals every other one."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def _never_too_late(patch: pytest.MonkeyPatch) -> None:
    _receive(patch, "call", lambda message: replace(message, ms=1_000_000, until=None))


def _believe_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplayWindow, "accept", lambda window, counter: True)


def _others_grant(patch: pytest.MonkeyPatch) -> None:
    on_behalf = routing._on_behalf

    def grant(state: State, request: ClientRequest, why: str, reply: Outcome) -> None:
        command: Any = request.command
        copy, node = state.store.settled(command.id), command.node
        if copy is not None and all(each.addr == node.addr for each in records.without_pending_grant(copy).nodes):
            replies.reply(state, request, RegistrationOutcome(record=copy, listed=(node,), bootstrap="granted"))
        else:
            on_behalf(state, request, why, reply)

    patch.setattr(routing, "_on_behalf", grant)


def _count_a_refusal_as_unreachable(patch: pytest.MonkeyPatch) -> None:
    refused = routing._refused

    def ignore(state: State, request: ClientRequest, refusal: Exception) -> None:
        if isinstance(request.command, Register) and isinstance(refusal, Undecided):
            routing._on_behalf(state, request, refusal.reason, Outcome())
        else:
            refused(state, request, refusal)

    patch.setattr(routing, "_refused", ignore)


def _nobody_keeps_hints(patch: pytest.MonkeyPatch) -> None:
    def store(state: State, owner: str, discovery_id: str, node: Node, host: str | None, on_done: Continuation) -> None:
        state.resume(on_done, 0)

    patch.setattr(hints, "store", store)


def _no_retry_window(patch: pytest.MonkeyPatch) -> None:
    initial_state = machine._initial_state

    def with_no_window(config: MachineConfig, *args: Any) -> State:
        return initial_state(replace(config, limits=replace(config.limits, retry_window_ms=0)), *args)

    patch.setattr(machine, "_initial_state", with_no_window)


def _no_barrier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(barriers, "run", lambda state, record, purpose, on_done: state.resume(on_done, None))


def _show_claims(patch: pytest.MonkeyPatch) -> None:
    """A claim is answered again to its claimant, and shown to all others meanwhile."""
    view = queries.view
    patch.setattr(queries, "view", lambda state, record: view(state, replace(record, unreported=None)))


def _claim_once(patch: pytest.MonkeyPatch) -> None:
    """A claim is shown to nobody, and its claimant does not win again."""
    claim = decide.claim

    def claim_once(state: State, record: Record, put: Put, host: str | None) -> ClaimOutcome:
        if record.unreported is not None:
            return ClaimOutcome(record=record, won=False)
        return claim(state, record, put, host)

    patch.setattr(decide, "claim", claim_once)


def _no_client_hosts(patch: pytest.MonkeyPatch) -> None:
    """A loopback address is like any other."""
    patch.setattr(host_binding, "check_host", _nothing)
    patch.setattr(host_binding, "check_list", _nothing)
    patch.setattr(host_binding, "bind", lambda record, node, joined_at, host: record)
    patch.setattr(decide, "check_list", _nothing)
    patch.setattr(decide, "is_local", lambda addr: False)


def _show_the_pending(patch: pytest.MonkeyPatch) -> None:
    """Copies show nodes whose grant may not have been answered."""

    def view(state: State, record: Record) -> View:
        return view_of(record, is_owner=True, hinted=state.hints.nodes(record.id))

    patch.setattr(queries, "view", view)


def _show_what_is_granted(patch: pytest.MonkeyPatch) -> None:
    """An owner shows a node once its grant is on the disk, before it is answered."""
    patch.setattr(queries, "shown", lambda state, discovery_id: state.store.settled(discovery_id))


def _no_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    def replicated(state: State, version: int, on_done: Continuation, *, is_grant: bool) -> None:
        state.resume(on_done, None)

    patch.setattr(pushes, "await_replication", replicated)
    patch.setattr(pushes, "push", _nothing)


def _no_revoking(patch: pytest.MonkeyPatch) -> None:
    def leave(state: State, pending: GrantInProgress) -> None:
        grants._revoked(state, None, pending.id)

    patch.setattr(grants, "revoke", leave)


def _ownerless_grant(patch: pytest.MonkeyPatch) -> None:
    take_part = takeover._take_next

    def take_part_with_grants(
        state: State, outcome: Exception | None, incarnation: str, position: int, count: int, is_lost: bool
    ) -> None:
        take_part(state, outcome, incarnation, position, count, False)

    patch.setattr(takeover, "_take_next", take_part_with_grants)
    patch.setattr(own_records, "viewed_as_own", _taken_over_with_grants)
    patch.setattr(Members, "has_lost", lambda members, owner: False)


def _trust_the_disk(patch: pytest.MonkeyPatch) -> None:
    def check(state: State, discovery_id: str) -> None:
        if (reason := decide.objection(state)) is not None:
            raise NotReady(reason)

    patch.setattr(decide, "check_may_change", check)


def _leave_out_own_hints(patch: pytest.MonkeyPatch) -> None:
    """Answers from before a daemon was ready are added once an exchange with a peer ended, or
    later.
    """
    merge_hints = own_records.merge_hints

    def merge_all(state: State, _: object = None) -> None:
        for discovery_id in state.hints.ids(state.own):
            with suppress(Undecided):
                merge_hints(state, discovery_id)

    patch.setattr(own_records, "merge_hints", lambda state, discovery_id: False)
    patch.setattr(hints, "merge_all", merge_all)
    patch.setattr(queries, "view", lambda state, record: view_of(record, is_owner=record.owner == state.own))


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sessions, "record_activity", _nothing)
    patch.setattr(contacts, "fence", _nothing)


def _remove_what_is_there(patch: pytest.MonkeyPatch) -> None:
    remove = requests._HANDLERS[Remove]

    def remove_now(state: State, request: ClientRequest, command: Remove) -> None:
        record = queries.newest(state, command.id)
        request.arrival = () if record is None else (record,)
        remove(state, request, command)

    patch.setitem(requests._HANDLERS, Remove, remove_now)


def _remove_anywhere(patch: pytest.MonkeyPatch) -> None:
    fail = replies.fail

    def answer(state: State, request: ClientRequest, error: Exception) -> None:
        copy = state.store.settled(replies.id_of(request)) if isinstance(request.command, Remove) else None
        if isinstance(request.command, Remove) and copy is not None and isinstance(error, StoreUnavailable):
            after = transitions.remove(copy, request.command.addr)
            replies.reply(state, request, RemovalAtOwner(record=after, removed=after is not copy))
        else:
            fail(state, request, error)

    patch.setattr(replies, "fail", answer)


def _forget_the_emptied(patch: pytest.MonkeyPatch) -> None:
    _cover(patch, lambda record: not record.nodes)


def _forget_attempted(patch: pytest.MonkeyPatch) -> None:
    _cover(patch, lambda record: records.is_unused(replace(record, attempted=False)))


def _cover(patch: pytest.MonkeyPatch, is_unused: Callable[[Record], bool]) -> None:
    def covers(watermarks: ExpiryWatermarks, record: Record) -> bool:
        return record.version <= watermarks.of(record.owner) and is_unused(record)

    patch.setattr(ExpiryWatermarks, "covers", covers)


def _learn_no_watermarks(patch: pytest.MonkeyPatch) -> None:
    def learn_nothing(state: State, peer: Peer, on_done: Continuation) -> bool:
        return True

    changed = [learn_nothing if step is steps._learn_watermarks else step for step in steps.STEPS]
    patch.setattr(exchange, "STEPS", tuple(changed))


def _take_expired(patch: pytest.MonkeyPatch) -> None:
    initial_state = machine._initial_state

    def with_no_watermarks(*args: Any) -> State:
        state = initial_state(*args)
        state.cursors._watermarks = ExpiryWatermarks()
        return state

    patch.setattr(machine, "_initial_state", with_no_watermarks)


def _publish_unreserved(patch: pytest.MonkeyPatch) -> None:
    """Versions that a crash may lose are sent to peers, and issued again."""
    initial_state = machine._initial_state

    def with_all_reserved(*args: Any) -> State:
        state = initial_state(*args)
        state.own_writes.reserved = state.own_writes.reserving = 1 << 62
        return state

    patch.setattr(machine, "_initial_state", with_all_reserved)


_SWITCHES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "R1": _everybody_decides,
    "R2 incarnation": _answer_for_others,
    "R2 late": _never_too_late,
    "R2 once": _believe_twice,
    "R3": _others_grant,
    "R4": _nobody_keeps_hints,
    "R4 refusal": _count_a_refusal_as_unreachable,
    "R5a": _no_retry_window,
    "R5b": _no_barrier,
    "R5c hidden": _show_claims,
    "R5c again": _claim_once,
    "R5d": _no_client_hosts,
    "R6 shown": _show_the_pending,
    "R6 owner": _show_what_is_granted,
    "R6 acknowledgement": _no_acknowledgement,
    "R6 revoking": _no_revoking,
    "R7": _ownerless_grant,
    "R8 restart": _trust_the_disk,
    "R8 reserved": _publish_unreserved,
    "R8 own hints": _leave_out_own_hints,
    "R8 fence": _no_fence,
    "R9 arrival": _remove_what_is_there,
    "R9 owner": _remove_anywhere,
    "P7 emptied": _forget_the_emptied,
    "P7 tried": _forget_attempted,
    "P7 published": _learn_no_watermarks,
    "P7 taken": _take_expired,
}
RULES = tuple(_SWITCHES)
