"""Commands on the peers of a daemon: peers, peers forget, drain."""

from __future__ import annotations

from rqdisco.cli.app import DONE, FAILED, App, UsageError, operator_failure
from rqdisco.cli.output import format_ids
from rqdisco.client import PeerState, Refused

FORGET_WARNING = (
    "{name} must be lost for good: changes that only it stored are lost, this daemon becomes the owner of its IDs,"
    " which bootstrap no cluster any more, and the other peers ignore it if it returns"
)
DRAIN_WARNING = "this daemon hands over all its IDs and grants nothing any more; remove it afterwards"

# The documents of daemons keep older words.
_STATES = {"established": "ready", "silent": "unreachable"}


async def show(app: App) -> int:
    """Print all peers and their state; FAILED if something needs attention."""
    try:
        state = await app.client.peers()
    except Refused as error:
        raise operator_failure(error) from None
    columns = ("NAME", "STATE", "LAST CONTACT", "LAG", "CLOCK", "URL")
    rows = [
        (state.name, f"{_STATES.get(state.state, state.state)} (queried)", "-", "-", "-", state.url),
        *map(_peer_row, sorted(state.peers, key=lambda peer: peer.name or "")),
    ]
    app.output.table(f"peers of {state.name}", columns, rows)
    for note in state.notes:
        app.output.message(note)
    if state.hints:
        app.output.message(f"{state.hints} registrations wait for their owners")
    return FAILED if state.notes else DONE


async def forget(app: App, name: str, *, yes: bool) -> int:
    """Forget a lost peer."""
    if not yes:
        raise UsageError(f"{FORGET_WARNING.format(name=name)}; confirm with --yes")
    try:
        forgotten = await app.client.forget_peer(name)
    except Refused as error:
        raise operator_failure(error) from None
    app.output.message(f"forgot {forgotten.forgotten}, took over {format_ids(forgotten.ids)}")
    return DONE


async def drain(app: App, to: str | None, *, yes: bool) -> int:
    """Hand over all IDs, and print the new owner."""
    if not yes:
        raise UsageError(f"{DRAIN_WARNING}; confirm with --yes")
    try:
        drained = await app.client.drain(to)
    except Refused as error:
        raise operator_failure(error) from None
    app.output.line(drained.to)
    return DONE


def _peer_row(peer: PeerState) -> tuple[str, ...]:
    state = _STATES.get(peer.state, peer.state)
    if peer.successor is not None:
        state = f"{state}, IDs at {peer.successor}"
    contact = "-" if peer.last_contact is None else f"{peer.last_contact:.0f} s ago"
    lag = "-" if peer.lag is None else str(peer.lag)
    clock = "-" if peer.clock_offset_ms is None else f"{peer.clock_offset_ms / 1000:+.1f} s"
    return peer.name or "?", state, contact, lag, clock, peer.url
