"""The daemon as one of several peers: a deterministic state machine without I/O.

`receive` takes what happened, and returns what to do. The driver performs it, and the simulator
plays the rest of the world. What a function cannot finish now is resumed later by a
`Continuation`, which the state keeps as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop
from typing import Any

from rqdisco.backends.gossip.core import (
    contacts,
    convergence,
    draining,
    exchange,
    forgetting,
    freezing,
    grant_barriers,
    grants,
    inputs,
    pushes,
    recovery,
    replies,
    requests,
    routing,
    serving,
)
from rqdisco.backends.gossip.core.cursors import Cursors
from rqdisco.backends.gossip.core.effects import Effect, Wake
from rqdisco.backends.gossip.core.grant_ages import GrantAges
from rqdisco.backends.gossip.core.hint_store import HintStore
from rqdisco.backends.gossip.core.members import Members
from rqdisco.backends.gossip.core.messages import FEATURES, Member
from rqdisco.backends.gossip.core.own_writes import OwnWrites
from rqdisco.backends.gossip.core.state import ClientRequest, MachineConfig, State
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import REFUSALS, StoreUnavailable
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.freezes import stored_reason
from rqdisco.storage.memory import Store


class Machine:
    """The state machine over a `store` and the `metadata` stored beside it; `now` is the start."""

    def __init__(
        self,
        config: MachineConfig,
        store: Store,
        metadata: Sequence[Metadata],
        watermarks: ExpiryWatermarks,
        now: inputs.Now,
    ) -> None:
        self.state = _initial_state(config, store, metadata, watermarks, now)

    def receive(self, given: inputs.Input, now: inputs.Now) -> list[Effect]:
        """Process an input, and return the effects of it.

        An exception is a bug. The caller logs it, performs `take_effects()` and continues; the
        machine has ended its exchange rounds so that new ones start.
        """
        state = self.state
        state.now = now
        try:
            _HANDLERS[type(given)](state, given)
        except Exception:
            exchange.end_all(state)
            if isinstance(given, inputs.Requested):
                state.requests.pop(given.number, None)
            raise
        if not state.peers:
            exchange.watch_leftovers(state)
        if state.timers and state.timers[0][0] != state.woken_at:
            state.woken_at = at = state.timers[0][0]
            state.effects.append(Wake(at))
        effects, state.effects = state.effects, []
        return effects

    def take_effects(self) -> list[Effect]:
        """Return the effects of an input that failed part-way."""
        effects, self.state.effects = self.state.effects, []
        # Tick at once: the handler that failed may have left timers without a `Wake`.
        return [*effects, Wake(self.state.now.seconds)]


def _initial_state(
    config: MachineConfig, store: Store, metadata: Sequence[Metadata], watermarks: ExpiryWatermarks, now: inputs.Now
) -> State:
    own = config.incarnation
    members = Members(Member(incarnation=own, name=config.name, url=config.url, features=FEATURES), metadata)
    own_writes, era = OwnWrites(own, store, metadata), int(config.run_id[:7], 16) + 1
    cursors = Cursors(own, store, metadata, own_writes=own_writes, watermarks=watermarks, era=era)
    state = State(
        config=config,
        own=own,
        store=store,
        members=members,
        cursors=cursors,
        own_writes=own_writes,
        hints=HintStore(members, metadata),
        watermarks=watermarks,
        grant_ages=GrantAges(now.seconds, config.limits.retry_window_ms / 1000),
        now=now,
        started_at=now.seconds,
        started_ms=now.moment.ms,
        began_with_records=cursors.own_cursor > 0,
        began_with_others=bool(members.others),
        frozen_on_disk=stored_reason(metadata, own),
        jitter_seed=int(config.run_id[:7], 16),
    )
    successor = members.current_owner(members.own.successor or own)
    # If the successor has been drained to this daemon, its IDs are this daemon's again.
    if members.own.state not in ("member", "leaving") or successor != own:
        state.successor = successor
        # The successor is asked only once no hints are left here, and a leaving daemon stores none.
        state.is_handing_over = members.own.state != "leaving" or not state.hints.count
    recovery.load(state, metadata)
    state.unrecorded_answers.update(cursors.own_pending_grants())
    return state


def _start(state: State, _: inputs.Started) -> None:
    state.is_running = True
    for url in state.config.seeds:
        contacts.add_peer(state, url)
    contacts.update_peers(state)
    exchange.begin_due(state)


def _stop(state: State, _: inputs.Stopped) -> None:
    state.is_running = False
    pushes.give_up(state)
    contacts.give_up(state)
    convergence.give_up(state)


def _tick(state: State, _: inputs.Ticked) -> None:
    state.woken_at = None
    now = state.now.seconds
    # What is put off to a later turn during this one waits for the next.
    last = state.last_number
    while state.timers and state.timers[0][0] <= now and state.timers[0][1] <= last:
        _at, number, on_done = heappop(state.timers)
        state.resume(on_done, number)
    exchange.begin_due(state)


def _request(state: State, requested: inputs.Requested) -> None:
    command = requested.command
    request = ClientRequest(requested.number, command, began_at=state.now.seconds)
    state.requests[request.number] = request
    handler = _COMMANDS.get(type(command))
    try:
        if handler is None:
            routing.route(state, request)
        else:
            handler(state, request, command)
    except REFUSALS as error:
        replies.fail(state, request, error)


def _revoke_stuck(state: State, request: ClientRequest, _: inputs.RevokeStuck) -> None:
    grants.revoke_stuck(state)
    replies.reply(state, request, None)


def _client_is_gone(state: State, number: int) -> None:
    request = state.requests.get(number)
    if request is not None and not grants.is_offered(state, request):
        grant_barriers.abandon(state, request)


def _settled(state: State, settled: inputs.Settled) -> None:
    before = state.cursors.published
    for record in state.cursors.settled(settled.changes):
        state.grant_ages.observe(record, state.now.seconds)
    if state.cursors.published != before:
        pushes.push(state)


def _persisted(state: State, persisted: inputs.Persisted) -> None:
    number = persisted.number
    if number in state.writes:
        state.disk_refuses = None
    state.own_writes.confirm_reservation(state.reservations.pop(number, 0))
    _end_write(state, number, None)


def _refused(state: State, refused: inputs.WriteRefused) -> None:
    state.disk_refuses = refused.reason
    if state.reservations.pop(refused.number, 0):
        state.own_writes.fail_reservation()
    _end_write(state, refused.number, StoreUnavailable(refused.reason))


def _end_write(state: State, number: int, outcome: StoreUnavailable | None) -> None:
    on_done = state.writes.pop(number, None) or state.flushes.pop(number, None)
    if on_done is not None:
        state.resume(on_done, outcome)


_COMMANDS: dict[type, Callable[[State, ClientRequest, Any], None]] = {
    inputs.Create: requests.create,
    inputs.FreezeStore: freezing.freeze,
    inputs.ThawStore: freezing.thaw,
    inputs.Forget: forgetting.forget,
    inputs.Drain: draining.drain,
    inputs.RevokeStuck: _revoke_stuck,
}

_HANDLERS: dict[type, Callable[[State, Any], None]] = {
    inputs.Started: _start,
    inputs.Stopped: _stop,
    inputs.Ticked: _tick,
    inputs.Requested: _request,
    inputs.Cancelled: lambda state, given: _client_is_gone(state, given.number),
    inputs.Delivered: lambda state, given: grants.delivered(state, given.number, given.was_delivered),
    inputs.Greeted: serving.greet,
    inputs.Received: serving.serve,
    inputs.HungUp: lambda state, given: _client_is_gone(state, -given.number),
    inputs.Answered: contacts.answered,
    inputs.Failed: contacts.failed,
    inputs.Settled: _settled,
    inputs.Discarded: lambda state, given: state.own_writes.discarded(given.changes),
    inputs.Persisted: _persisted,
    inputs.WriteRefused: _refused,
}
