"""Everything that the machine knows, as plain data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappush
from typing import Any, Concatenate, ParamSpec

import msgspec

from rqdisco.backends.gossip.core.cursors import Cursors
from rqdisco.backends.gossip.core.effects import Effect, Level, Log, Persist
from rqdisco.backends.gossip.core.grant_ages import GrantAges
from rqdisco.backends.gossip.core.hint_store import HintStore
from rqdisco.backends.gossip.core.inputs import Command, Now
from rqdisco.backends.gossip.core.members import Members
from rqdisco.backends.gossip.core.messages import Hello, Member
from rqdisco.backends.gossip.core.own_writes import OwnWrites
from rqdisco.backends.gossip.core.sessions import Sessions
from rqdisco.backends.limits import Limits
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Moment, Record
from rqdisco.storage.memory import Change, Store

P = ParamSpec("P")


class MachineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of this daemon and the operator's settings. `run_id` is new at each start.

    It finds others at `seeds`. With `ack_required` a bootstrap is granted only once a peer has it.
    `host` names the machine of this daemon in records.
    """

    incarnation: str
    run_id: str
    name: str
    url: str
    host: str
    seeds: tuple[str, ...] = ()
    ack_required: bool = False
    limits: Limits = Limits()


class Continuation(msgspec.Struct, frozen=True):
    """A step that follows a write, a send or a timer: call `function` with the state, the outcome and
    `args`. The outcome of a write is None, that of a send the answer, that of a timer its number. If a
    write or a send failed, it is the exception.
    """

    function: Callable[..., None]
    args: tuple[Any, ...]


def then(function: Callable[Concatenate[State, Any, P], None], *args: P.args, **_: P.kwargs) -> Continuation:
    """Return a continuation. Its function belongs to a module, so that the state stays plain data."""
    return Continuation(function, args)


def ignore(state: State, outcome: object) -> None:
    """Do nothing: the continuation of what nobody waits for."""


@dataclass(slots=True)
class Outgoing:
    """A message that waits for its answer, or for a session."""

    number: int
    peer: int
    verb: str
    message: msgspec.Struct
    seconds: float
    on_done: Continuation
    session_number: int = 0
    is_repeated: bool = False


class RemoteClock(msgspec.Struct, frozen=True):
    """A peer's own time, when that arrived here, and in which session: a later session may be with a
    daemon whose host booted since.
    """

    moment: Moment
    received_at: float
    session_number: int


@dataclass(slots=True)
class Peer:
    """A daemon at a URL, as this one sees it. `key` is unique in a run; `incarnation` is known once
    it was greeted.
    """

    key: int
    url: str
    incarnation: str | None = None
    # Whether it answered the last request, and whether one was attempted.
    is_up: bool = False
    was_attempted: bool = False
    # Whether it answered after it was declared lost, and was not declared lost here since.
    came_back: bool = False
    last_error: str | None = None
    # The time of the last answer or message from it.
    contacted_at: float | None = None
    # The version up to which it durably holds this daemon's records, and the newest it holds.
    acked: int = 0
    newest_of_ours: int = 0
    # The newest version of its own records that it has issued.
    newest_issued: int = 0
    # All its cursors and expiry watermarks, by owner.
    held: dict[str, int] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)
    # Whether all it had was pulled once.
    is_caught_up: bool = False
    # Its member list: the fingerprint, how it differs from ours, for how many exchanges in a row.
    fingerprint: str = ""
    differences: tuple[str, ...] = ()
    differing_exchanges: int = 0
    clock_offset_ms: int | None = None
    # Why it decides nothing, if it reported so.
    fenced_reason: str | None = None
    # Whether it never contacted some of its seeds.
    has_unmet: bool = False
    # Digests that it sent; the answers to ours do not count.
    digests_received: int = 0
    digest_received_at: float | None = None
    skipped_rounds: int = 0
    # The number of the present session with it, 0 for none, and the start of it that answered.
    session_number: int = 0
    run_id: str = ""
    is_greeting: bool = False
    # Messages that wait for a session.
    waiting: list[int] = field(default_factory=list)
    remote_clock: RemoteClock | None = None
    # The exchange: see `exchange`.
    step: int | None = None
    due_at: float | None = None
    last_round_ended_at: float = 0.0
    is_triggered: bool = False
    is_hinting: bool = True
    is_next_hinting: bool = True
    done_owners: set[str] = field(default_factory=set)
    hints_are_done: bool = False
    this_round: list[Continuation] = field(default_factory=list)
    next_round: list[Continuation] = field(default_factory=list)
    # Pushes: see `pushes`.
    pushed_upto: int = 0
    pushes_in_flight: int = 0
    is_dropped: bool = False


@dataclass(slots=True)
class ClientRequest:
    """A request of a client here, or of one at a peer: then `respond_to` is the number of the peer's
    message, and the request's own number is negative.
    """

    number: int
    command: Command
    respond_to: int | None = None
    began_at: float = 0.0
    # The states of its record when it arrived (R9).
    arrival: tuple[Record, ...] | None = None
    # The owners left to ask, for an ID that is unknown here, and why one did not answer.
    is_unknown: bool = False
    candidates: list[str] = field(default_factory=list)
    doubt: StoreUnavailable | None = None
    # The number of the message to the owner, 0 for none; and what to do instead while the owner may
    # not decide (R4, R8).
    sent: int = 0
    fallback: Continuation | None = None


@dataclass(slots=True)
class GrantInProgress:
    """A grant that is not answered yet, and the requests that wait for it.

    `before` is the record before the grant, None while peers are asked and nothing is decided yet.
    The grant is stuck if it must be revoked, for `reason`, and the disk refused that.
    """

    id: str
    request: int
    before: Record | None = None
    outcome: Any = None
    # Whether it is on this disk.
    is_written: bool = False
    # Whether the answer was given to the driver, which confirms that it was sent.
    is_offered: bool = False
    is_stuck: bool = False
    # What the client of a grant to be revoked is told, once it is.
    refusal: StoreUnavailable | None = None
    reason: str = ""
    waiting: list[Continuation] = field(default_factory=list)


@dataclass(slots=True)
class PendingBarrier:
    """A barrier under way: the members that were asked, and the message under way to each of those
    that are not done, 0 before it is sent. `number` tells it from an earlier one of the same ID.
    `purpose` is what fails if the barrier does, in words.
    """

    number: int
    record: Record
    members: frozenset[str]
    on_done: Continuation
    sent: dict[str, int]
    purpose: str


@dataclass(slots=True)
class State:
    """The state of the machine; `now` is the time of the present input, `effects` what it caused."""

    config: MachineConfig
    # This daemon's incarnation.
    own: str
    store: Store
    members: Members
    cursors: Cursors
    own_writes: OwnWrites
    hints: HintStore
    watermarks: ExpiryWatermarks
    grant_ages: GrantAges
    now: Now
    started_at: float
    # The time of the start, as grants store it.
    started_ms: int
    effects: list[Effect] = field(default_factory=list)
    last_number: int = 0
    # The last version that this daemon issued, durable or not.
    issued: int = 0
    is_running: bool = False
    # Peers by incarnation, those not identified yet by URL, and all of them by key.
    peers: dict[str, Peer] = field(default_factory=dict)
    unidentified: dict[str, Peer] = field(default_factory=dict)
    contacts: dict[int, Peer] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=Sessions)
    # Hellos of sessions in which no message has come yet.
    unproved: OrderedDict[str, Hello] = field(default_factory=OrderedDict)
    # What is under way, by number.
    outgoing: dict[int, Outgoing] = field(default_factory=dict)
    writes: dict[int, Continuation] = field(default_factory=dict)
    flushes: dict[int, Continuation] = field(default_factory=dict)
    # The highest versions that writes under way reserve.
    reservations: dict[int, int] = field(default_factory=dict)
    requests: dict[int, ClientRequest] = field(default_factory=dict)
    pending_grants: dict[str, GrantInProgress] = field(default_factory=dict)
    # Own IDs whose grant was answered, which the disk does not know.
    unrecorded_answers: set[str] = field(default_factory=set)
    timers: list[tuple[float, int, Continuation]] = field(default_factory=list)
    woken_at: float | None = None
    # The right to decide: see `decide`.
    confirmed: set[str] = field(default_factory=set)
    # The IDs created in this run before it was ready: nobody else can have newer versions of them.
    created_before_ready: set[str] = field(default_factory=set)
    is_ready: bool = False
    fenced: str | None = None
    # The incarnation that this daemon hands its IDs over to, or has.
    successor: str | None = None
    # Whether that incarnation may have agreed already.
    is_handing_over: bool = False
    # The reason why an operator froze it, as the disk has it; and those of the freezes being written.
    frozen_on_disk: str | None = None
    freezing: list[str] = field(default_factory=list)
    # Whether peers accept nothing from this daemon any more, which its own disk does not say.
    is_excluded: bool = False
    # Whether the disk had own records at the start, and other members.
    began_with_records: bool = False
    began_with_others: bool = False
    # The reason why the disk refuses writes, if it does.
    disk_refuses: str | None = None
    # Recovery of own records: see `recovery`.
    trusted_upto: int = 0
    expired_upto: int = 0
    must_reissue: bool = False
    may_have_marker: bool = False
    # Whether `recovery.finish` has seen that the daemon is ready.
    was_ready: bool = False
    recovered_grants: dict[str, int] = field(default_factory=dict)
    # Owners whose records are being pulled from some peer.
    pulling: set[str] = field(default_factory=set)
    # Waits for replication and for convergence, by the number of their timer.
    replication_waits: dict[int, tuple[int, Continuation]] = field(default_factory=dict)
    convergence_waits: dict[int, Continuation] = field(default_factory=dict)
    # The requests for which all members are asked next, None while none are asked: see `confirming`.
    confirming: list[Continuation] | None = None
    unreplicated: int = 0
    unreplicated_grants: int = 0
    barriers: dict[str, PendingBarrier] = field(default_factory=dict)
    is_correcting: bool = False
    # Whether `recovery.finish` waits for the disk.
    is_finishing_recovery: bool = False
    # How many recoveries began in this run; one that begins during a reissue needs another.
    recoveries: int = 0
    # Those whose IDs were taken over in this run, and who waits for the takeovers under way.
    takeovers_begun: set[str] = field(default_factory=set)
    takeovers_running: dict[str, list[Continuation]] = field(default_factory=dict)
    # The fingerprint of the member list that all agreed on, "" if they did not, as logged last.
    agreed_on: str = ""
    # The members at the last end of a round that finished what was left.
    finished_for: tuple[Member, ...] | None = None
    # Whether a timer lets the last daemon finish what is left.
    is_finishing_alone: bool = False
    jitter_seed: int = 0

    @property
    def frozen(self) -> str | None:
        """The reason for which this daemon is frozen, None if it is not."""
        return self.freezing[0] if self.freezing else self.frozen_on_disk

    def next_number(self) -> int:
        """Return a new number for a write, a send or a timer."""
        self.last_number += 1
        return self.last_number

    def log(self, level: Level, text: str, **fields: Any) -> None:
        self.effects.append(Log(level, text, fields))

    def persist(self, changes: Sequence[Change], on_done: Continuation) -> int:
        """Write changes that are no own records, see `writes.write` for those. Without changes,
        resume `on_done` once everything put so far is durable.
        """
        number = self.next_number()
        waiting = self.writes if changes else self.flushes
        waiting[number] = on_done
        self.effects.append(Persist(number, tuple(changes)))
        return number

    def resume(self, on_done: Continuation, outcome: Any) -> None:
        on_done.function(self, outcome, *on_done.args)

    def resume_soon(self, on_done: Continuation) -> None:
        """Resume with None in a later turn, so that others get theirs."""
        self.call_at(self.now.seconds, then(resume_with_none, on_done))

    def call_at(self, at: float, on_done: Continuation) -> int:
        """Resume `on_done` at a time; the outcome is the number that this returns."""
        self.last_number = number = self.last_number + 1
        heappush(self.timers, (at, number, on_done))
        return number

    def next_jitter(self) -> float:
        """Return a factor around 1, so that daemons started together do not stay in step."""
        self.jitter_seed = (self.jitter_seed * 1_103_515_245 + 12_345) % (1 << 31)
        return 0.9 + 0.2 * self.jitter_seed / (1 << 31)

    def next_version(self) -> int:
        """Return a version for one more change: milliseconds of the wall clock, but always above
        every known version (R8).
        """
        self.issued = max(self.store.last_version + 1, self.now.wall_us // 1000)
        return self.issued


def resume_with_none(state: State, _: object, on_done: Continuation) -> None:
    """Resume `on_done`, whatever the outcome was."""
    state.resume(on_done, None)
