"""May this daemon decide about an ID now? Every answer to that question, with the reason in words;
and the decisions that may grant a bootstrap.
"""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.members import ACTIVE_STATES
from rqdisco.backends.gossip.core.messages import HIDDEN_CLAIMS, Member
from rqdisco.backends.gossip.core.peer_errors import gone_reason
from rqdisco.backends.gossip.core.state import State
from rqdisco.core import decisions, records, transitions
from rqdisco.core.addresses import is_local, same_node
from rqdisco.core.errors import Frozen, NotReady, Ownerless, TooManyIDs, Undecided
from rqdisco.core.host_binding import check_list
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import view_of

CONTACT_SECONDS = 24 * 3600.0
DISAGREE = "peers disagree or are unreachable"


def objection(state: State) -> str | None:
    """Return the reason to decide nothing at all, creation of IDs included."""
    if state.fenced is not None:
        return state.fenced
    own = state.members.own
    if own.state in ("forgotten", "drained"):
        return gone_reason(own.state, own.incarnation)
    if (to := queries.handed_over_to(state)) is None:
        return None
    successor = state.members.get(to)
    return f"handed over to {to if successor is None else state.members.label(successor)}"


def unconfirmed(state: State) -> list[Member]:
    """Return the members that have not confirmed, since this daemon started, that they hold no newer
    version of its records (R8).
    """
    return [each for each in state.members.others if each.incarnation not in state.confirmed]


def is_ready(state: State) -> bool:
    """Report whether this daemon has all that members hold of its records. Also latches the result,
    so that members that join later do not make the daemon unready.
    """
    if not state.is_ready and shows_ready(state):
        state.is_ready = True
        state.created_before_ready.clear()
    return state.is_ready


def shows_ready(state: State) -> bool:
    """Report the same as `is_ready`, without changing the state."""
    return state.is_ready or not (unconfirmed(state) or _lacks_members(state))


def withdraw_confirmation(state: State, incarnation: str) -> None:
    """Withdraw a peer's confirmation: it holds newer versions, so this disk is an older one."""
    state.confirmed.discard(incarnation)
    state.is_ready = False


def check_frozen(state: State, during: str | None = None) -> None:
    """Raise Frozen unless the daemon may change records now. `during` is the reason of the freeze
    that an import belongs to. The import raises Frozen during any other freeze, and Undecided if
    there is none.
    """
    if state.frozen == during:
        return
    if state.frozen is not None:
        raise Frozen(state.frozen)
    raise Undecided("this daemon is not frozen for the import")


def check_may_change(state: State, discovery_id: str) -> None:
    """Raise NotReady if this daemon must not change one of its own IDs now; others may list on its
    behalf.
    """
    if (reason := objection(state)) is not None:
        raise NotReady(reason)
    if discovery_id not in state.created_before_ready:
        check_ready(state)
    if state.own_writes.refused:
        _check_disk_has(state, discovery_id)


def _check_disk_has(state: State, discovery_id: str) -> None:
    """Raise NotReady if peers have a change of an ID that this disk refused, and it is not corrected yet."""
    if state.own_writes.true_record(discovery_id.encode()) != state.store.newest(discovery_id):
        raise NotReady("the disk refused a change of this ID that peers have")


def check_ready(state: State) -> None:
    """Raise NotReady if this daemon may lack records of its own."""
    if not is_ready(state):
        names = ", ".join(map(state.members.label, unconfirmed(state)))
        raise NotReady(f"no contact since the start with: {names}" if names else "no peer contacted yet")


def check_creation(state: State) -> None:
    """Raise Undecided where this daemon may not create an ID, TooManyIDs if there are too many."""
    check_frozen(state)
    check_room(state)
    if (reason := objection(state)) is not None:
        raise Undecided(reason)


def check_room(state: State) -> None:
    """Raise TooManyIDs if there are as many IDs as the limit allows."""
    most = state.config.limits.max_ids
    if most is not None and state.store.count_all() >= most:
        raise TooManyIDs


def check_no_grant(state: State, discovery_id: str) -> None:
    """Raise Undecided while a grant of the ID is decided and not answered (R3)."""
    pending = state.pending_grants.get(discovery_id)
    if pending is not None and pending.before is not None:
        raise Undecided("another decision about this ID is in progress")


def check_owner(state: State, record: Record) -> None:
    """Raise Ownerless where this daemon may not grant (R1, R7)."""
    if record.ownerless or record.owner != state.own:
        raise Ownerless(record.id)


def register(state: State, record: Record, node: Node, host: str | None) -> RegistrationOutcome:
    """Decide about a registration at the owner. Raises as `Directory.register`."""
    limits = state.config.limits
    is_recovered = record.grant is not None and state.recovered_grants.get(record.id) == record.grant.at
    outcome = transitions.register(
        record,
        node,
        host=host,
        now=state.now.moment,
        retry_window_ms=0 if is_recovered else limits.retry_window_ms,
        max_nodes=limits.max_nodes,
    )
    if outcome.bootstrap is not None:
        check_owner(state, record)
    return decisions.list_ownerless(outcome, queries.view(state, outcome.record), node) if record.ownerless else outcome


def claim(state: State, record: Record, put: Put, host: str | None) -> ClaimOutcome:
    """Decide about a claim at the owner. Raises as `Directory.claim`."""
    limits, version, others = state.config.limits, state.next_version(), state.members.others
    outcome = transitions.claim(
        record,
        put,
        host=host,
        version=version,
        now=state.now.moment,
        max_nodes=limits.max_nodes,
        # A member never contacted counts as hiding claims: what is shown once is never repeated.
        is_hidden=not limits.visible_claims
        and all(not each.features or HIDDEN_CLAIMS in each.features for each in others),
        may_repeat=all(HIDDEN_CLAIMS in each.features for each in others),
        began_ms=state.started_ms,
    )
    if not outcome.won:
        return outcome
    check_owner(state, record)
    return replace(outcome, record=replace(outcome.record, version=version))


def copy_to_list(
    state: State, discovery_id: str, node: Node, host: str | None, why: str, reply: Record | None
) -> Record:
    """Return the newest record available, if it lists another node and is safe to list on the
    owner's behalf (R4); `reply` is what the owner holds, `why` the reason why it does not decide.

    Raises Undecided where the list may be outdated, LoopbackConflict, Ownerless, Frozen.
    """
    check_frozen(state)
    copy = _newer(queries.shown(state, discovery_id), reply)
    is_member = state.members.own.state in ACTIVE_STATES and queries.handed_over_to(state) is None
    if copy is None or not is_member or state.is_excluded:
        raise Undecided(why)
    if not any(not same_node(each.addr, node.addr) for each in view_of(copy, is_owner=False).nodes):
        if copy.ownerless and not copy.nodes:
            raise Ownerless(copy.id)
        raise Undecided(why)
    check_list(copy, node, host)
    if is_local(node.addr) and copy.host is None:
        # Only the owner decides which host a loopback address belongs to (R5d).
        raise Undecided(why)
    grant, now = copy.grant, state.now.seconds
    if grant is not None and same_node(grant.addr, node.addr) and state.grant_ages.is_young(copy, now):
        raise Undecided(f"{why}, and this node may just have been told to bootstrap")
    owner = queries.owner(state, copy)
    contact = queries.seconds_since_contact(state, owner, now) if owner != state.own else 0.0
    since = now - state.started_at if contact is None else contact
    if since > CONTACT_SECONDS and not copy.ownerless:
        raise Undecided(f"{why}, for more than a day")
    return copy


def _lacks_members(state: State) -> bool:
    """Report whether own records were on the disk, no other member is active, and some seed has not
    answered: the disk may be older than the cluster.
    """
    return state.began_with_records and bool(state.unidentified) and not state.members.others


def _newer(copy: Record | None, reply: Record | None) -> Record | None:
    """Return the newer of a copy and the owner's record; the owner's disk may be an older one."""
    if copy is None or reply is None:
        return reply if copy is None else copy
    return reply if records.precedence(copy, reply) == "newer" else copy


def may_expire(state: State) -> bool:
    """Report whether this daemon may expire its own unused IDs."""
    return objection(state) is None and is_ready(state) and not state.must_reissue and state.frozen is None
