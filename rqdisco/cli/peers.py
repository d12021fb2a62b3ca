"""Commands on the peers of a daemon: peers, peers forget, drain."""

from __future__ import annotations

from collections.abc import Mapping

from rqdisco.cli.app import DONE, FAILED, App, CommandFailed, UsageError, operator_failure
from rqdisco.cli.durations import format_duration
from rqdisco.client import ForgetPreview, PeerState, Refused
from rqdisco.core.ids import short_incarnations
from rqdisco.core.plurals import counted

DRAIN_WARNING = "this daemon hands over all its IDs and grants nothing any more; remove it afterwards"

# The documents of daemons keep older words.
_STATES = {"established": "ready", "silent": "unreachable"}


async def show(app: App, *, as_json: bool) -> int:
    """Print all peers and their state; FAILED if something needs attention."""
    try:
        state = await app.client.peers()
    except Refused as error:
        raise operator_failure(error) from None
    if as_json:
        app.output.document(state)
        return FAILED if state.notes else DONE
    known = [state.incarnation, *(each.incarnation for each in state.peers if each.incarnation)]
    short = short_incarnations(known)
    columns = ("NAME", "INCARNATION", "STATE", "LAST CONTACT", "LAG", "CLOCK", "URL")
    own_state = f"{_STATES.get(state.state, state.state)} (queried)"
    rows = [
        (state.name, short[state.incarnation], own_state, "-", "-", "-", state.url),
        *(_peer_row(peer, short) for peer in sorted(state.peers, key=_order)),
    ]
    app.output.table(f"peers of {state.name}", columns, rows)
    for note in state.notes:
        app.output.message(note)
    if state.hints:
        app.output.message(
            counted(state.hints, "registration waits for its owner", "registrations wait for their owners")
        )
    return FAILED if state.notes else DONE


async def forget(app: App, name: str, *, yes: bool, as_json: bool) -> int:
    """Forget a lost peer. Without `yes`, say first which one and what becomes of its IDs, and
    ask.
    """
    try:
        # The answer is about the incarnation that the question named.
        chosen = name if yes else await _confirm_forget(app, name)
        forgotten = await app.client.forget_peer(chosen)
    except Refused as error:
        raise operator_failure(error) from None
    if as_json:
        app.output.document(forgotten)
    which = _identified(forgotten.forgotten, forgotten.incarnation)
    app.output.message(f"forgot {which}; {_consequence(forgotten.ids) or 'it owned no IDs'}")
    return DONE


async def _confirm_forget(app: App, name: str) -> str:
    """Ask whether to forget a peer, and return its incarnation. Raises Refused, UsageError without
    a terminal, CommandFailed if the user declines.
    """
    preview = await app.client.preview_forget_peer(name)
    consequence = _consequence(preview.ids, "becomes", "become") or "it owns no IDs"
    warnings = [_silence(preview), consequence, "it is refused if it returns"]
    if app.output.ask is None:
        raise UsageError(f"{'; '.join(warnings)}; confirm with --yes")
    for warning in warnings:
        app.output.message(warning)
    if not app.output.ask(f"Is {_identified(preview.name, preview.incarnation)} lost for good?"):
        raise CommandFailed("not forgotten")
    return preview.incarnation


def _silence(preview: ForgetPreview) -> str:
    """Say which peer does not answer, and for how long."""
    which = _identified(preview.name, preview.incarnation)
    if preview.state == "forgotten":
        return f"{which} is forgotten already"
    if preview.last_contact is None:
        return f"{which} has not answered since the queried daemon started"
    return f"{which} has not answered for {format_duration(preview.last_contact)}"


def _consequence(ids: int, one: str = "is", several: str = "are") -> str:
    """Say what becomes of the IDs of a forgotten peer, nothing if it has none."""
    if not ids:
        return ""
    return f"{counted(ids, 'ID')} {one if ids == 1 else several} list-only: nodes join, none is told to bootstrap"


def _identified(name: str, incarnation: str) -> str:
    return f"{name} ({incarnation})"


async def drain(app: App, to: str | None, *, yes: bool, as_json: bool) -> int:
    """Hand over all IDs, and print the new owner."""
    if not yes:
        raise UsageError(f"{DRAIN_WARNING}; confirm with --yes")
    try:
        drained = await app.client.drain(to)
    except Refused as error:
        raise operator_failure(error) from None
    if as_json:
        app.output.document(drained)
    else:
        app.output.line(drained.to)
    return DONE


def _order(peer: PeerState) -> tuple[str, bool, str, str]:
    # Of several of one name, the one that answers comes first.
    return peer.name, peer.state != "up", peer.url, peer.incarnation


def _peer_row(peer: PeerState, short: Mapping[str, str]) -> tuple[str, ...]:
    state = _STATES.get(peer.state, peer.state)
    if peer.successor is not None:
        state = f"{state}, IDs at {peer.successor}"
    contact = "-" if peer.last_contact is None else f"{peer.last_contact:.0f} s ago"
    lag = "-" if peer.lag is None else str(peer.lag)
    clock = "-" if peer.clock_offset_ms is None else f"{peer.clock_offset_ms / 1000:+.1f} s"
    return peer.name or "?", short.get(peer.incarnation, "-"), state, contact, lag, clock, peer.url
