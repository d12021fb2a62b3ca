"""Commands about the peers of a daemon: peers, peers forget, drain."""

from __future__ import annotations

from rqdisco.cli.app import DONE, REFUSED, App, Failed, Misused
from rqdisco.cli.screen import ids_in_words
from rqdisco.client import PeersState, PeerState, Refused

_THROUGH = "say --url unix:/run/rqdisco/operator.sock, or wherever its --operator-socket is"
_ALONE = "this daemon has no peers"
FORGET_MEANS = (
    "{name} must be lost for good: what it alone knew is lost with it, its IDs get this daemon for their home and seed"
    " no cluster any more, and should it come back nobody will listen to it"
)
DRAIN_MEANS = "this daemon hands over all of its IDs and decides nothing any more; take it away then"


async def show(app: App) -> int:
    """Print all peers and their state; refused where something is not as it should be."""
    state = await _state(app)
    columns = ("NAME", "STATE", "LAST CONTACT", "LAG", "CLOCK", "URL")
    rows = [
        (state.name, f"{state.state} (asked)", "-", "-", "-", state.url),
        *map(_row, sorted(state.peers, key=lambda peer: peer.name or "")),
    ]
    app.screen.table(f"peers of {state.name}", columns, rows)
    for note in state.notes:
        app.screen.say(note)
    if state.hints:
        app.screen.say(f"{state.hints} registrations wait for their owners")
    return REFUSED if state.notes else DONE


async def forget(app: App, name: str, *, sure: bool) -> int:
    """Forget a peer that is lost."""
    if not sure:
        raise Misused(f"{FORGET_MEANS.format(name=name)}; say --yes if it is")
    try:
        forgotten = await app.client.forget_peer(name)
    except Refused as error:
        raise _failed(error) from None
    app.screen.say(f"forgot {forgotten.forgotten}, took over {ids_in_words(forgotten.ids)}")
    return DONE


async def drain(app: App, to: str | None, *, sure: bool) -> int:
    """Hand over all IDs, and print who has them now."""
    if not sure:
        raise Misused(f"{DRAIN_MEANS}; say --yes if it is to be")
    try:
        drained = await app.client.drain(to)
    except Refused as error:
        raise _failed(error) from None
    app.screen.line(drained.to)
    return DONE


async def _state(app: App) -> PeersState:
    try:
        return await app.client.peers()
    except Refused as error:
        raise _failed(error) from None


def _failed(error: Refused) -> Failed:
    is_elsewhere = error.status == 404 and _ALONE not in str(error)
    return Failed(f"{error}: {_THROUGH}" if is_elsewhere else str(error))


def _row(peer: PeerState) -> tuple[str, ...]:
    state = peer.state if peer.successor is None else f"{peer.state}, IDs at {peer.successor}"
    contact = "-" if peer.last_contact is None else f"{peer.last_contact:.0f} s ago"
    lag = "-" if peer.lag is None else str(peer.lag)
    clock = "-" if peer.clock_offset_ms is None else f"{peer.clock_offset_ms / 1000:+.1f} s"
    return peer.name or "?", state, contact, lag, clock, peer.url
